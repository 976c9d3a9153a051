"""Every error of the lower floors arrives as a public one."""

from __future__ import annotations

import pytest

import nearsight_models.errors
import nearsight_npu.errors
from nearsight.errors import (
    ChecksumError,
    DelegateError,
    MissingFilesError,
    ModelError,
    NearsightError,
    UnknownModelError,
    translated,
)


def below(module) -> list[type[Exception]]:
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Exception)]
    return [error for error in found if not issubclass(error, Warning)]


@pytest.mark.parametrize("error", [*below(nearsight_models.errors), *below(nearsight_npu.errors)])
def test_no_lower_error_passes_untranslated(error):
    with pytest.raises(NearsightError, match="why") as caught, translated():
        raise error("why")

    assert isinstance(caught.value.__cause__, error)


def test_a_twin_keeps_its_meaning():
    for name, twin in (
        ("UnknownModelError", UnknownModelError),
        ("MissingFilesError", MissingFilesError),
        ("ChecksumError", ChecksumError),
    ):
        with pytest.raises(twin), translated():
            raise getattr(nearsight_models.errors, name)("why")


def test_a_users_mistake_exits_with_two():
    with pytest.raises(NearsightError) as caught, translated():
        raise nearsight_npu.errors.InputMismatchError("why")

    assert caught.value.exit_code == 2
    assert (ModelError.exit_code, DelegateError.exit_code) == (1, 1)


def test_a_model_that_was_not_installed_is_the_users_mistake_and_a_lost_file_is_not():
    with pytest.raises(MissingFilesError) as caught, translated():
        raise nearsight_models.errors.NotInstalledError("why")

    assert (caught.value.exit_code, MissingFilesError.exit_code) == (2, 1)


def test_other_errors_pass_as_they_are():
    with pytest.raises(ZeroDivisionError), translated():
        1 / 0  # noqa: B018
