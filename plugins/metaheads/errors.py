"""Errors that a user can mend: one line that says what is wrong and what to do."""

from __future__ import annotations

import contextlib
import dis
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch.multiprocessing


class UserError(ValueError):
    """A message for the user that stands for itself."""


def tells_user(error: BaseException) -> bool:
    """Whether one of our modules raised the error to tell the user something.

    An error that Python itself raises in our code is a fault of ours, whatever its type; but the
    system's own about a file (no space, no permission) are for the user.
    """
    if isinstance(error, UserError) or (isinstance(error, OSError) and error.filename):
        return True
    if isinstance(error, AssertionError | NotImplementedError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or "metaheads" not in trace.tb_frame.f_globals.get("__name__", ""):
        return False
    instructions = dis.get_instructions(trace.tb_frame.f_code)
    return any(i.offset == trace.tb_lasti and i.opname == "RAISE_VARARGS" for i in instructions)


def message_of(error: BaseException) -> str:
    """The text of an error; a KeyError would put it into quotes."""
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)


@contextlib.contextmanager
def blaming(what: str) -> Iterator[None]:
    """What a host raises in here, because of a user's config, becomes one line about `what`."""
    try:
        yield
    except Exception as error:
        if tells_user(error) or wants_traceback():
            raise
        text = message_of(error).strip().splitlines() or ["without a message"]
        kind = type(error).__name__
        hint = "METAHEADS_TRACEBACK=1 shows where"
        raise UserError(f"{what}: {kind}: {text[0]} ({hint})") from error


def wants_traceback() -> bool:
    return bool(os.environ.get("METAHEADS_TRACEBACK"))


@contextlib.contextmanager
def heard_from_processes() -> Iterator[Any]:
    """Yields the queue for `tell`; the first message of a process becomes a UserError here."""
    messages = torch.multiprocessing.get_context("spawn").SimpleQueue()
    try:
        yield messages
    except (
        torch.multiprocessing.ProcessRaisedException,
        torch.multiprocessing.ProcessExitedException,
    ):
        if messages.empty():
            raise
        raise UserError(messages.get()) from None


def tell(messages: Any, function: Callable, *args: Any) -> None:
    """Calls the function in a process of its own; an error for the user goes to the parent."""
    try:
        function(*args)
    except Exception as error:
        if not tells_user(error) or wants_traceback():
            raise
        messages.put(message_of(error))
        raise SystemExit(2) from None
