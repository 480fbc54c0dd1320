"""Matrix products of compiled updates, computed by oneDNN."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close

from agents.common.engine import onednn
from tests.common.toys import normals


def products(x, weight, bias, members):
    small = weight[:, :8].t() @ weight
    return torch.addmm(bias, x, weight), torch.mm(x.t(), x), torch.bmm(members, members.mT), small


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
def test_large_products_of_a_graph_are_those_of_onednn():
    members = normals(2, 128, 96)
    inputs = normals(256, 128), normals(128, 64), normals(64), members
    graph = make_fx(products, tracing_mode="fake")(*inputs)
    options = onednn.options_of_pass()
    options["post_grad_custom_post_pass"](graph.graph)
    graph.recompile()
    assert graph.code.count("flow_rl_zoo.product") == 3
    assert_close(graph(*inputs), products(*inputs), rtol=1e-4, atol=1e-3)
    fake = [torch.empty(value.shape, device="meta") for value in (members, members.mT)]
    assert onednn.shape_of_product(*fake).shape == (2, 128, 128)
