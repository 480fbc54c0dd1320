# ruff: noqa: I001
# Written by docs/make_tables.py, since model classes are made from methods at run time.
from agents.common.sb3.model import FlowAlgorithm as FlowAlgorithm
from agents.common.frames import FrameStack as FrameStack
from agents.common.sb3.encoders import ImpalaEncoder as ImpalaEncoder
from agents.common.method import Method as Method
from agents.common.nets.pretrained import PretrainedFlow as PretrainedFlow
from agents.registry import algorithm_ids as algorithm_ids
from agents.common.settings import choice as choice
from agents.common.sb3.exporting import export_onnx as export_onnx
from agents.models import get as get
from agents.common.settings import linear_range as linear_range
from agents.models import load as load
from agents.common.sb3.policy import load_policy as load_policy
from agents.common.settings import log_range as log_range
from agents.registry import register as register
from agents.common.settings import setting as setting
from agents.qam import QAM as _QAM
from agents.qam_f import QAMF as _QAMF
from agents.qam_e import QAME as _QAME
from agents.trqam import TRQAM as _TRQAM
from agents.sqam import SQAM as _SQAM
from agents.bam import BAM as _BAM
from agents.fbrac import FBRAC as _FBRAC
from agents.fql import FQL as _FQL
from agents.fawac import FAWAC as _FAWAC
from agents.ifql import IFQL as _IFQL
from agents.cgql import CGQL as _CGQL
from agents.cgql_mse import CGQLMSE as _CGQLMSE
from agents.cgql_linex import CGQLLinex as _CGQLLinex
from agents.qsm import QSM as _QSM
from agents.dac import DAC as _DAC
from agents.dsrl import DSRL as _DSRL
from agents.fedit import FEDIT as _FEDIT
from agents.rebrac import ReBRAC as _ReBRAC
from agents.rlpd import RLPD as _RLPD
from agents.rql import RQL as _RQL
from agents.qgf import QGF as _QGF
from agents.meanflowql import MeanFlowQL as _MeanFlowQL
from agents.fan import FAN as _FAN
from agents.value_flows import ValueFlows as _ValueFlows
from agents.gfp import GFP as _GFP
from agents.driftql import DriftQL as _DriftQL
from agents.iql import IQL as _IQL
from agents.idql import IDQL as _IDQL
from agents.bc import BC as _BC

__version__: str

class QAM(FlowAlgorithm):
    method: _QAM

class QAMF(FlowAlgorithm):
    method: _QAMF

class QAME(FlowAlgorithm):
    method: _QAME

class TRQAM(FlowAlgorithm):
    method: _TRQAM

class SQAM(FlowAlgorithm):
    method: _SQAM

class BAM(FlowAlgorithm):
    method: _BAM

class FBRAC(FlowAlgorithm):
    method: _FBRAC

class FQL(FlowAlgorithm):
    method: _FQL

class FAWAC(FlowAlgorithm):
    method: _FAWAC

class IFQL(FlowAlgorithm):
    method: _IFQL

class CGQL(FlowAlgorithm):
    method: _CGQL

class CGQLMSE(FlowAlgorithm):
    method: _CGQLMSE

class CGQLLinex(FlowAlgorithm):
    method: _CGQLLinex

class QSM(FlowAlgorithm):
    method: _QSM

class DAC(FlowAlgorithm):
    method: _DAC

class DSRL(FlowAlgorithm):
    method: _DSRL

class FEDIT(FlowAlgorithm):
    method: _FEDIT

class ReBRAC(FlowAlgorithm):
    method: _ReBRAC

class RLPD(FlowAlgorithm):
    method: _RLPD

class RQL(FlowAlgorithm):
    method: _RQL

class QGF(FlowAlgorithm):
    method: _QGF

class MeanFlowQL(FlowAlgorithm):
    method: _MeanFlowQL

class FAN(FlowAlgorithm):
    method: _FAN

class ValueFlows(FlowAlgorithm):
    method: _ValueFlows

class GFP(FlowAlgorithm):
    method: _GFP

class DriftQL(FlowAlgorithm):
    method: _DriftQL

class IQL(FlowAlgorithm):
    method: _IQL

class IDQL(FlowAlgorithm):
    method: _IDQL

class BC(FlowAlgorithm):
    method: _BC
