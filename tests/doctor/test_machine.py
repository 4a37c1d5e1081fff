"""Findings about the machine."""

import shutil
import sys
from collections import namedtuple

import pytest
import torch

from a2mim.doctor import checks
from a2mim.doctor.checks import Verdict

Usage = namedtuple('Usage', 'total used free')


def test_python_disk_memory_and_cores_are_looked_at():
    names = [finding.name for finding in checks.check_machine()]
    assert names == ['Python', 'processor', 'shared memory', 'disk']


@pytest.mark.parametrize('version', [(3, 9, 0), (3, 14, 0)])
def test_a_python_that_does_not_work_stops(monkeypatch, version):
    monkeypatch.setattr(sys, 'version_info', version)
    assert next(checks.check_machine()).stops


def test_the_shared_memory_of_a_plain_container_is_a_problem(monkeypatch):
    monkeypatch.setattr(checks, 'SHARED_MEMORY', '/')
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(64 * 2**20, 0, 64 * 2**20))
    finding = checks.check_shared_memory()
    assert finding.verdict is Verdict.PROBLEM
    assert finding.found == '0.06 GiB in /'
    assert '--shm-size' in finding.remedy


def test_a_machine_without_a_gpu_is_no_problem(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(checks.Path, 'exists', lambda _: False)
    (finding,) = checks.check_gpus()
    assert finding.verdict is Verdict.MISSING
    assert not finding.stops


def test_a_driver_without_cuda_is_a_problem(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(checks.Path, 'exists', lambda _: True)
    (finding,) = checks.check_gpus()
    assert finding.verdict is Verdict.PROBLEM
    assert 'CUDA 13.0 and finds no GPU' in finding.found
