"""Helpers that several test files share. Their assertions show values, as those of tests do."""

import pkgutil

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{each.name}" for each in pkgutil.iter_modules(__path__))
)
