"""Sizes of memory: what is read, and what is refused because it could mean two things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimpot.defaults.machine import GB, LEAST, MOST, described, parse_memory, size, this_machine
from trimpot.ground.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("24GB", 24 * GB),
        ("24 GB", 24 * GB),
        (" 24gb ", 24 * GB),
        ("24G", 24 * GB),
        ("24g", 24 * GB),
        ("24GiB", 24 << 30),
        ("24 gib", 24 << 30),
        ("24000MB", 24 * GB),
        ("24576MiB", 24 << 30),
        ("0.5GB", GB // 2),
        (".5GB", GB // 2),
        ("79.15 GiB", int(79.15 * 2**30)),
        ("1TB", 1000 * GB),
        ("25769803776B", 24 << 30),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str, count: int) -> None:
    assert parse_memory(text) == count


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("24", "no unit; write 24GB or 24MB"),
        ("0", "no unit"),
        ("", "no size of memory"),
        ("GB", "no size of memory"),
        ("-24GB", "no size of memory"),
        ("24XB", "no size of memory"),
        ("24 GB or so", "no size of memory"),
        ("24,5GB", "no size of memory"),
        ("1e3GB", "no size of memory"),
        ("nanGB", "no size of memory"),
        ("infGB", "no size of memory"),
        ("0GB", "none that a device has"),
        ("1KB", "none that a device has"),
        ("99999TB", "none that a device has"),
        ("9" * 5000 + "GB", "none that a device has"),
        ("24GB\n24GB", "no size of memory"),
    ],
)
def test_anything_else_is_refused_in_one_short_sentence(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as error:
        parse_memory(text)
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)


@given(st.integers(LEAST, MOST))
def test_what_is_shown_is_read_again(count: int) -> None:
    assert parse_memory(size(count)) == pytest.approx(count, rel=0.06)


def test_this_machine_has_what_its_system_says_and_no_more() -> None:
    import psutil

    here = this_machine()
    assert here.main == psutil.virtual_memory().total
    assert this_machine(GB).memory == GB
    with pytest.raises(ConfigError, match="give less, or leave it out"):
        this_machine(MOST)


def test_a_described_machine_is_a_gpu() -> None:
    assert described(24 * GB).is_gpu and described(24 * GB).main is None


def test_a_device_that_is_given_is_the_one_that_is_described() -> None:
    assert this_machine(device="cpu").kind == "cpu"
    assert not described(24 * GB, "cpu").is_gpu
    with pytest.raises(ConfigError, match="there is no device 'cuda:7' here"):
        this_machine(device="cuda:7")
