"""Channels by index or name, and how they are written as text: 0,DAPI,"Alexa 488, em 520",#1."""

import json
import re
from collections.abc import Iterable, Sequence

from napari_patchset.errors import ArgumentError

ChannelId = int | str
"""A channel by index or name."""


def channel_indices(names: Sequence[str], channels: Sequence[ChannelId] | None) -> list[int]:
    """Find channels by index or name; None for all.

    A number is an index, and a name only where there is no such index.
    """
    if channels is None:
        return list(range(len(names)))
    return [_channel_index(names, channel) for channel in channels]


def _channel_index(names: Sequence[str], channel: ChannelId) -> int:
    if isinstance(channel, int) and 0 <= channel < len(names):
        return channel
    same = [index for index, name in enumerate(names) if name == str(channel)]
    if len(same) == 1:
        return same[0]
    if same:
        listed = ", ".join(map(str, same))
        raise ArgumentError(
            f"There are {len(same)} channels {channel!r}; choose one by its index: {listed}."
        )
    has = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
    raise ArgumentError(f"There is no channel {channel!r}; the channels are {has}.")


def find_channel(channel: ChannelId, channels: Sequence[str], others: Sequence[str]) -> int:
    """Return the index of a channel among `channels`, or behind them among `others`."""
    is_among = str(channel) in channels or channel in range(len(channels))
    if not is_among and str(channel) in others:
        return len(channels) + others.index(str(channel))
    return channel_indices(channels, [channel])[0]


def distinct_names(channels: Sequence[str]) -> list[str]:
    """Return the names of channels, equal ones with their index: "DAPI 0", "DAPI 1"."""
    names = [n if channels.count(n) == 1 else f"{n} {i}" for i, n in enumerate(channels)]
    while len(set(names)) < len(names):  # a channel may be called "DAPI 0" itself
        names = [
            n if names.count(n) == 1 or channels.count(channels[i]) == 1 else f"{n} {i}"
            for i, n in enumerate(names)
        ]
    return names


_QUOTED = r'"(?:[^"\\]|\\.)*"'
_CHANNEL = re.compile(rf'({_QUOTED})|([^,"]+)')
_ITEM = rf'(?:\s*{_QUOTED}\s*|[^,"]*)'
_LIST = re.compile(rf"{_ITEM}(?:,{_ITEM})*")
_PLAIN_NAME = re.compile(r'[^\s,\[\]"#]+(?: [^\s,\[\]"]+)*')


def parse_channels(text: str) -> tuple[ChannelId, ...]:
    """Parse channels as text: 0,DAPI,"405","Alexa 488, em 520",#1.

    Digits are an index, with or without "#"; what is in quotes, as in JSON, is a name.

    Raises
    ------
    ArgumentError
        If a quote does not end, or begins within a name.
    """
    fault = (
        f"{text}: a quote does not end, or begins within a name; put a name that has a comma or a "
        r'quote in quotes, and write its own quotes as \", like "5\" disc"'
    )
    if not _LIST.fullmatch(text):
        raise ArgumentError(fault)
    try:
        return tuple(
            str(json.loads(quoted)) if quoted else _number_or_name(plain.strip())
            for quoted, plain in _CHANNEL.findall(text)
            if quoted or plain.strip()
        )
    except json.JSONDecodeError as error:  # a backslash that begins no escape
        raise ArgumentError(fault) from error


def _number_or_name(text: str) -> ChannelId:
    return int(text.removeprefix("#")) if re.fullmatch(r"#?\d+", text) else text


def format_channels(channels: Iterable[ChannelId]) -> str:
    """Return channels as `parse_channels` reads them."""
    return ",".join(
        name
        if not isinstance(channel, str) or (_PLAIN_NAME.fullmatch(name) and not name.isdecimal())
        else json.dumps(name, ensure_ascii=False)
        for channel in channels
        for name in [str(channel)]
    )


def check_bare_numbers(text: str, names: Sequence[str]) -> None:
    """Refuse a number in a text of channels that is an index and the name of another channel."""
    for _, plain in _CHANNEL.findall(text):
        number = plain.strip()
        if not number.isdecimal() or int(number) >= len(names) or number not in names:
            continue
        if (other := names.index(number)) != int(number):
            raise ArgumentError(
                f"{number} is the index of channel {names[int(number)]!r}, and the name of the one "
                f'of index {other}; write #{number} for the index, or "{number}" in quotes for '
                "the name."
            )
