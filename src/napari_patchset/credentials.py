"""Passwords and tokens in URLs: held in memory, and sent, but never written or shown.

A URL that a user names is stripped of them (`strip_credentials`) before it becomes part of a plan,
a message or a file; they stay in this process, by the stripped URL, and are given to the jobs of
an executor (`call_with_credentials`). Jobs that a scheduler starts by themselves take them from
~/.netrc or from fsspec's configuration.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

_P = ParamSpec("_P")
_R = TypeVar("_R")

_WEB = ("http", "https")

_SHORTEST = 6
"""Characters from which a secret is masked wherever it occurs; shorter ones occur by chance."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")

MASK = "***"


@dataclass(frozen=True, repr=False)
class Credentials:
    """What a URL was stripped of; its text shows none of it."""

    user: str = ""
    password: str = ""
    query: tuple[tuple[str, str], ...] = ()


_known: dict[str, Credentials] = {}
"""By stripped URL."""


def strip_credentials(url: str) -> str:
    """Return a URL without user, password and query; `find_credentials` returns these then.

    The user alone is part of the address in some schemes, such as abfs, and stays there.
    """
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    is_secret = at and (":" in user or parts.scheme in _WEB)
    if not (is_secret or parts.query):
        return url
    stripped = urlunsplit((parts.scheme, host if is_secret else parts.netloc, parts.path, "", ""))
    name, _, password = user.partition(":") if is_secret else ("", "", "")
    query = tuple(parse_qsl(parts.query, keep_blank_values=True))
    _known[stripped] = Credentials(unquote(name), unquote(password), query)
    return stripped


def find_credentials(url: str) -> Credentials | None:
    """Return what a URL was stripped of in this process, None if nothing."""
    return _known.get(url)


def restore_url(url: str) -> str:
    """Return a URL with user and password again, for a library that takes them from there."""
    found = _known.get(url)
    if found is None or not found.user:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{found.user}:{found.password}@{parts.netloc}"))


def credentials_of(urls: Iterable[str]) -> dict[str, Credentials]:
    """Return what some URLs were stripped of in this process."""
    return {url: _known[url] for url in urls if url in _known}


def call_with_credentials(
    credentials: Mapping[str, Credentials],
    function: Callable[_P, _R],
    /,
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> _R:
    """Call a function in a process that is given credentials."""
    _known.update(credentials)
    return function(*args, **kwargs)


def hide_credentials(text: str) -> str:
    """Mask known secrets in a text, and what may be one in its URLs."""
    for found in _known.values():
        for secret in (found.password, *(value for _, value in found.query)):
            if len(secret) >= _SHORTEST:
                text = text.replace(secret, MASK)
    return _URL.sub(lambda match: _masked(match[0]), text)


def _masked(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:  # not an address, so nothing in it is known
        return url
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{MASK}@{host}" if ":" in user or (user and parts.scheme in _WEB) else parts.netloc
    pairs = (pair.partition("=") for pair in parts.query.split("&") if pair)
    query = "&".join(f"{name}{equals}{MASK if equals else ''}" for name, equals, _ in pairs)
    if (netloc, query) == (parts.netloc, parts.query):
        return url
    return urlunsplit(parts._replace(netloc=netloc, query=query))
