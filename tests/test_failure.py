"""How a notebook fails is told in words: what the kernel said, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from envbox.notebooks.document import Notebook
from envbox.notebooks.kernels import has_kernel, kernel_packages
from envbox.sessions.execution.claims import Claims
from envbox.sessions.execution.failure import Where, cell_failed, not_started, shadowing
from envbox.sessions.execution.parameters import allows_errors

STDERR = {"output_type": "stream", "name": "stderr", "text": "warned\nUsageError: no magic\n"}


def where(kernel: str | None, language: str, asked: str | None = None) -> Where:
    return Where("a.ipynb", "maps", Notebook(Path("/p/a.ipynb"), language, kernel, None, (), {}), asked)


@pytest.mark.parametrize(
    ("error", "outputs", "words"),
    [
        ({"ename": "UsageError", "evalue": "no magic"}, [STDERR], "UsageError: no magic"),
        ({"ename": "E", "evalue": ""}, [], "E"),
        ({}, [STDERR], "UsageError: no magic"),
        ({}, [], "the kernel does not say why"),
        ({"ename": "E", "evalue": "reply"},
         [{"output_type": "error", "ename": "F", "evalue": "shown", "traceback": ["t"]}], "F: shown"),
    ],
)  # fmt: skip
def test_what_failed_is_what_the_kernel_said(
    error: dict[str, Any], outputs: list[dict[str, Any]], words: str
) -> None:
    assert cell_failed(error, outputs)[0] == words


@pytest.mark.parametrize(
    ("kernel", "language", "package"),
    [
        ("ir", "R", "r-irkernel"), ("xcpp14", "C++14", "xeus-cling"), ("xcpp20", "c++", "xeus-cpp"),
        (None, "bash", "bash_kernel"), ("octave", "octave", "octave_kernel"), ("env-x", "r", "r-irkernel"),
        ("python3", "python", "ipykernel"), ("mine", "python", "ipykernel"), ("fortran", "f", "lfortran"),
    ],
)  # fmt: skip
def test_a_kernel_s_package_is_named(kernel: str | None, language: str, package: str) -> None:
    assert kernel_packages(kernel, language)[0] == package
    error = not_started({"event": "no kernel", "there": []}, where(kernel, language.lower()), "")
    assert error.hint == f"envbox add --name maps {package}"
    other = not_started({"event": "no kernel", "there": ["python3"]}, where(kernel, language.lower()), "")
    assert (other.hint or "").startswith("there is python3: --kernel NAME")


def test_of_a_language_that_is_not_known_no_package_is_made_up() -> None:
    error = not_started({"event": "no kernel", "there": []}, where("julia-1.9", "julia"), "")
    assert "no conda package is known" in (error.hint or "")
    assert has_kernel({"calysto-scheme-kernel"}, "scheme")
    assert not has_kernel({"numpy"}, "scheme")


def test_ipykernel_is_proposed_only_where_there_is_no_kernel() -> None:
    python = where("python3", "python")
    none = not_started({"event": "no client", "there": []}, python, "")
    assert (none.message, none.hint) == (
        "a.ipynb: there is no kernel in maps", "envbox add --name maps ipykernel",
    )  # fmt: skip
    lacking = not_started({"event": "no client", "there": ["xpython"]}, python, "")
    assert "has the kernel xpython, but no jupyter_client" in lacking.message
    assert lacking.hint == "envbox add --name maps jupyter_client"
    broken = not_started({"event": "failed", "words": "ImportError: libzmq.so.5"}, python, "")
    assert "ImportError: libzmq.so.5" in broken.message
    assert "ipykernel" not in (broken.hint or "")


def test_a_file_of_the_folder_that_stands_before_a_module_is_named(tmp_path: Path) -> None:
    assert shadowing(tmp_path, "") is None
    for name in ("mine.py", "random.py", "types.py"):
        (tmp_path / name).touch()
    (tmp_path / "traitlets").mkdir()
    assert "random.py, types.py in " in str(shadowing(tmp_path, ""))
    (tmp_path / "traitlets/__init__.py").touch()
    named = str(shadowing(tmp_path, 'File "/work/traitlets/__init__.py", line 1'))
    assert named.startswith(f"traitlets in {tmp_path} stands before a module")


def test_errors_are_allowed_in_the_ways_that_people_write_it() -> None:
    assert allows_errors({"allow_errors": True})
    assert allows_errors({"execution": {"allow_errors": True}})
    assert allows_errors({"nbsphinx": {"allow_errors": True}})
    assert not allows_errors({"execution": {"allow_errors": "no"}, "nbsphinx": None})


def test_a_claim_is_the_last_one_s_and_ends_with_it() -> None:
    claims = Claims()
    for name in ("a", "b"):
        claims.heard("comm_open", {"comm_id": name, "data": {"state": {"_model_name": "OutputModel"}}})
        claims.heard("comm_msg", {"comm_id": name, "data": {"method": "update", "state": {"msg_id": "r"}}})
    assert claims.holder("r", "stream") == "b"
    assert claims.holder("r", "update_display_data") is None
    assert claims.holder("other", "stream") is None
    for text in ("x", "y"):
        claims.take("b", "stream", {"name": "stdout", "text": text})
    claims.heard("comm_msg", {"comm_id": "b", "data": {"method": "update", "state": {"msg_id": ""}}})
    assert claims.holder("r", "error") == "a"
    (news,) = claims.news()
    assert news["data"]["state"] == {"outputs": [{"output_type": "stream", "name": "stdout", "text": "xy"}]}
    assert claims.news() == []
    claims.heard("comm_close", {"comm_id": "a"})
    assert claims.holder("r", "stream") is None
    claims.heard("comm_msg", {"comm_id": "b", "data": None})
