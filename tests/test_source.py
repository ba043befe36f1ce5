"""Channels by index and name, as a user writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.channels import (
    ChannelId,
    channel_indices,
    check_bare_numbers,
    format_channels,
    parse_channels,
)
from napari_patchset.errors import ArgumentError

NAMES = ("405", "DAPI", "DAPI", "Alexa 488, em 520", "1", "CD8 [Opal 570]")


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("405", [0]),
        ("#1,0", [1, 0]),
        ('"1"', [4]),
        ('"Alexa 488, em 520",5', [3, 5]),
        ("CD8 [Opal 570], 3", [5, 3]),
    ],
)
def test_channels_by_index_and_name(text: str, indices: list[int]) -> None:
    assert channel_indices(NAMES, parse_channels(text)) == indices
    check_bare_numbers(text, NAMES)


def test_what_could_be_two_channels_is_refused() -> None:
    with pytest.raises(ArgumentError, match="2 channels 'DAPI'; choose one by its index: 1, 2"):
        channel_indices(NAMES, ["DAPI"])
    with pytest.raises(ArgumentError, match=r"1 is the index of channel 'DAPI'.* write #1 for"):
        check_bare_numbers("0,1", NAMES)
    for text in ('DAPI,"GFP', '5" disc', 'a "b" c', '"a"b', r'"a\q"'):
        with pytest.raises(ArgumentError, match=r'a quote does not end.*like "5\\" disc"'):
            parse_channels(text)
    assert parse_channels(r'"5\" disc", DAPI,') == ('5" disc', "DAPI")


@given(st.lists(st.integers(0, 99) | st.text(min_size=1), min_size=1))
def test_what_is_formatted_is_parsed_as_the_same_channels(channels: list[ChannelId]) -> None:
    assert parse_channels(format_channels(channels)) == tuple(channels)
