"""Findings about the machine."""

import shutil
import sys
from collections import namedtuple

import pytest
import torch

from a2mim.doctor import checks
from a2mim.doctor.checks import Verdict

Usage = namedtuple('Usage', 'total used free')


@pytest.mark.parametrize('version', [(3, 9, 0), (3, 14, 0)])
def test_an_unsupported_python_stops(monkeypatch, version):
    monkeypatch.setattr(sys, 'version_info', version)
    assert checks.check_python().stops


def test_the_shared_memory_of_a_plain_container_is_a_problem(monkeypatch):
    monkeypatch.setattr(checks, 'SHARED_MEMORY', '/')
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(64 * 2**20, 0, 64 * 2**20))
    finding = checks.check_shared_memory()
    assert finding.verdict is Verdict.PROBLEM
    assert finding.found == '0.06 GiB in /'
    assert '--shm-size' in finding.remedy


@pytest.fixture
def no_gpu(monkeypatch):
    """A torch that was built for CUDA, on a machine where it finds no GPU."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.version, 'cuda', '13.0')


def test_versions_are_listed_and_a_machine_without_a_gpu_is_no_problem(no_gpu, monkeypatch):
    monkeypatch.setattr(checks.Path, 'exists', lambda _: False)
    findings = list(checks.check_environment())
    assert {finding.verdict for finding in findings} == {Verdict.OK}
    found = {finding.name: finding.found for finding in findings}
    assert found['PyTorch'] == torch.__version__
    assert found['CUDA available'] == 'False'


def test_a_driver_without_cuda_is_a_problem(no_gpu, monkeypatch):
    monkeypatch.setattr(checks.Path, 'exists', lambda _: True)
    *_, finding = checks.check_environment()
    assert finding.verdict is Verdict.PROBLEM
    assert 'CUDA 13.0 and finds no GPU' in finding.found
