"""The app with its engine in this process, to be mounted in yours."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from fastapi import FastAPI

from zhumo.bundle import Bundle
from zhumo.deploy.admission import Admission, Keys
from zhumo.deploy.app import Further, make_app
from zhumo.deploy.engine import Engine
from zhumo.deploy.feedback import Events
from zhumo.deploy.split import Split


def create_app(
    bundles: Mapping[str, Bundle], keys: str | Mapping[str, str], hosts: Iterable[str] = (), *,
    splits: Iterable[Split] = (), pictures: Path | None = None, feedback: Events | None = None, rate: float = 0,
    further: Mapping[str, Further] | None = None,
) -> FastAPI:  # fmt: skip
    """An app that answers for `bundles`, by the names clients call them.

    keys: what every request must bring as `Authorization: Bearer KEY`; several by their owners' names.
    hosts: names, besides loopback, under which the server may be addressed; "*" allows any bare IP address.
    splits: names that stand for several recommenders; pictures: the folder of a catalogue's pictures; feedback: where
    what visitors did goes; rate: requests a second of one key, 0 for as many as come; further: apps on top, by the
    names the console knows them by.
    """
    engine = Engine(bundles)
    admission = Admission(Keys({"": keys} if isinstance(keys, str) else keys), engine, hosts=hosts, rate=rate)
    return make_app(engine, admission, splits=splits, pictures=pictures, feedback=feedback, further=further)
