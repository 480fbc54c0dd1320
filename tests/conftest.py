"""Shared test set-up."""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # tests compare CPU numbers; GPU checks ask for their device
import torch

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives, above all beside other processes
