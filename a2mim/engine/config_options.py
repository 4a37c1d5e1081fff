"""Options ``KEY=VALUE`` of a command line, their values read as Python literals.

``[dict(type='EarlyStoppingHook', patience=3)]``, ``{'a': (1, 2)}`` and ``'cat x, dog'`` mean what
they mean in Python. Words need no quotes, and keep their blanks: ``[cat x,dog]`` is two names.
``1,2`` is a list, ``true`` and ``False`` are truth values, ``None`` is None, ``1e-3`` and ``inf``
are numbers. What is in quotes is text.
"""

import argparse
import ast
import re
import shlex
from collections.abc import Iterator, Sequence

from a2mim.errors import USER_ERROR

OPEN, CLOSED, QUOTES = '([{', ')]}', '\'"'
CALL = 'dict('


class ConfigOptions(argparse.Action):
    """Collect the options of a command line in a dict; a mistake is one line and exit code 2."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence | None,
        option_string: str | None = None,
    ) -> None:
        """Add ``values`` to what earlier options gave."""
        options = dict(getattr(namespace, self.dest) or {})
        previous, words = '', list(values or ())
        for place, text in enumerate(words):
            try:
                key, value = read_option(text, previous)
            except ValueError as error:
                reason = split_at_blank(words[place:]) or error
                parser.exit(USER_ERROR, f'error: {option_string or self.metavar} {reason}\n')
            options[key], previous = value, key
        setattr(namespace, self.dest, options)


# A dotted name, then a blank or one with the sign beside it where KEY=VALUE has the sign alone.
BLANK_FOR_SIGN = re.compile(r'([A-Za-z_]\w*(?:\.\w+)*) (?:= ?)?([^\s=]+)(?: |$)')


def split_at_blank(words: Sequence[str]) -> str | None:
    """What is wrong, if the first of ``words`` and some after it are one option with blanks."""
    found = BLANK_FOR_SIGN.match(' '.join(words))
    if found and '=' not in words[0]:
        key, value = found.groups()
        return f'{found[0].strip()!r} has a blank for the sign =; write {key}={value}'
    for count in range(2, len(words) + 1):
        whole = ' '.join(words[:count])
        try:
            read_option(whole)
        except ValueError:
            continue
        return f'{words[0]!r} ends at a blank; quote the whole option: {shlex.quote(whole)}'
    return None


def read_option(text: str, previous: str = '') -> tuple[str, object]:
    """Key and value of ``KEY=VALUE``.

    Args:
        text: One word of the command line.
        previous: Key of the option before it, for the message.

    Raises:
        ValueError: If it has another form, or its value has a bracket or quote without its partner.
    """
    key, found, value = text.partition('=')
    if not found or not key.strip():
        remedy = f'{previous}={text}' if previous else f'KEY={text}'
        raise ValueError(
            f'{text!r} is not KEY=VALUE; write for example {remedy!r}, in quotes if it has blanks'
        )
    try:
        return key.strip(), read_value(value)
    except ValueError as error:
        raise ValueError(f'{text!r}: {error}') from error
    except RecursionError as error:
        raise ValueError(f'{text[:40]!r}…: too many brackets') from error


def read_value(text: str) -> object:
    """The value that ``text`` stands for.

    Raises:
        ValueError: If a bracket or a quote of a list has no partner.
    """
    text = text.strip()
    if text[:1] and text[0] in QUOTES and _end_of_quote(text, 0) is None:
        raise ValueError('a quote has no partner')
    pieces = list(_split(text, ','))
    if len(pieces) > 1:
        return [read_value(piece) for piece in _without_last_empty(pieces)]
    if _is_quoted(text):
        inside = _unquoted(text)
        # A whole value in quotes of its own may be a list, as shells pass it on.
        return read_value(inside) if inside[:1] in ('(', '[') else inside
    if text.startswith(CALL) and _closes(text, len(CALL) - 1):
        return _entries(text[len(CALL) : -1], '=')
    if text[:1] and text[0] in OPEN and _closes(text, 0):
        return _collection(text[0], text[1:-1])
    return _scalar(text)


def _collection(opening: str, inside: str) -> object:
    if opening == '{':
        return _entries(inside, ':')
    items = [_item(piece) for piece in _without_last_empty([*_split(inside, ',')])]
    return tuple(items) if opening == '(' else items


def _item(text: str) -> object:
    """An item of a collection, in which quotes always mean text."""
    text = text.strip()
    return _unquoted(text) if _is_quoted(text) else read_value(text)


def _entries(inside: str, sign: str) -> dict:
    """The entries KEY=VALUE of ``dict(…)`` or KEY: VALUE of ``{…}``."""
    entries = {}
    for piece in _without_last_empty([*_split(inside, ',')]):
        key, *rest = _split(piece, sign)
        if not rest:
            raise ValueError(f'{piece.strip()!r} is not KEY{sign}VALUE')
        name = _item(key)
        entries[name if sign == ':' else key.strip()] = _item(sign.join(rest))
    return entries


def _without_last_empty(pieces: list[str]) -> list[str]:
    """``pieces`` without what stands after a last comma."""
    return pieces if pieces[-1].strip() else pieces[:-1]


def _scalar(text: str) -> object:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    words = {'true': True, 'false': False}
    return None if text == 'None' else words.get(text.lower(), text)


def _is_quoted(text: str) -> bool:
    """Whether one pair of quotes encloses all of ``text``."""
    return len(text) > 1 and text[0] in QUOTES and _end_of_quote(text, 0) == len(text) - 1


def _unquoted(text: str) -> str:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a backslash that Python does not know
        return text[1:-1]


def _end_of_quote(text: str, start: int) -> int | None:
    """Where the quote that begins at ``start`` ends; None if it does not."""
    place = start + 1
    while place < len(text):
        if text[place] == '\\':
            place += 1
        elif text[place] == text[start]:
            return place
        place += 1
    return None


def _signs(text: str) -> Iterator[tuple[int, str, int]]:
    """Place, character and number of open brackets of what is in ``text`` outside of quotes.

    A quote begins after a bracket, a comma, an equals sign or a colon: ``it's`` has none.
    """
    levels, place, before = 0, 0, ','
    while place < len(text):
        sign = text[place]
        end = _end_of_quote(text, place) if sign in QUOTES and before in '([{,=:' else None
        if end is not None:
            place, before = end + 1, sign
            continue
        levels -= sign in CLOSED
        yield place, sign, levels
        levels += sign in OPEN
        before = before if sign.isspace() else sign
        place += 1
    # A word may have a bracket without a partner, what is to be split may not.
    if levels and (text[:1] in (*OPEN, *QUOTES) or ',' in text or text.startswith(CALL)):
        raise ValueError('a bracket has no partner; if it has blanks, quote the whole option')


def _split(text: str, sign: str) -> Iterator[str]:
    """The parts of ``text`` between the ``sign`` that are in no bracket and no quote."""
    start = 0
    for place, found, levels in _signs(text):
        if found == sign and levels == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _closes(text: str, opening: int) -> bool:
    """Whether the bracket at ``opening`` is closed by the last character of ``text``."""
    levels = 0
    for place, sign, levels in _signs(text):
        if place > opening and levels == 0 and sign in CLOSED:
            return place == len(text) - 1
    return False
