"""Memory that is kept for the next tensors, and numbers near the smallest one."""

import platform

import pytest
import torch

from rnn_hf.utils.processor import keep_freed_memory, without_denormals


def product() -> float:
    return float(torch.full((8,), 1e-30).mul(1e-10)[0])


def test_glibc_takes_the_setting():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="the processor has no such setting")
def test_denormals_are_zero_inside_and_back_outside():
    assert product() > 0
    with without_denormals():
        with without_denormals():
            assert product() == 0
        assert product() == 0
    assert product() > 0


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="the processor has no such setting")
def test_they_are_back_after_an_error():
    with pytest.raises(KeyError), without_denormals():
        raise KeyError
    assert product() > 0
