"""All of a desk that a server needs: which version of its bundle serves, what it knows, where it keeps what it says."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zhumo.bundle import load
from zhumo.deploy.app import Further
from zhumo.deploy.server import names
from zhumo.errors import ModelError, SourceError
from zhumo.run import read_json
from zhumo.support.access import Access
from zhumo.support.faq import publish
from zhumo.support.improving import Flywheel
from zhumo.support.knowledge import Synced
from zhumo.support.library import Library
from zhumo.support.opening import encoder_of, follower, opened
from zhumo.support.routes import add_desk
from zhumo.support.tickets import Tickets
from zhumo.support.versions import Versions


@dataclass(frozen=True)
class Desk:
    """bundles: to be served, with the version that serves in place of what it is a version of; library: what it knows;
    synced: how reading went; app: what the server adds."""

    bundles: list[Path]
    library: Library
    synced: Synced
    app: Further


@contextmanager
def desk(
    bundles: Sequence[Path], documents: Path, knowledge: Path | None = None, *, place: str | None = None,
    agents: Collection[str] = ("",), access: Access | None = None, questions: Path | None = None,
    wording: str | None = None, progress: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Desk]:  # fmt: skip
    """Open a desk: its folder read with the first bundle that makes vectors.

    knowledge: None, beside that bundle; place: where replies and tickets are kept, if they are; agents: the owners of
    keys who are agents; questions: what an improved encoder must not be worse on; wording: the generator that chooses
    words; progress: files done, files.

    Raises:
        ModelError: no bundle makes vectors.
        SourceError: the folder, the knowledge or the place cannot be had.
    """
    encoder = encoder_among(bundles)
    knowledge = knowledge or knowledge_beside(encoder)
    versions = Versions(encoder) if place else None
    folder = versions.serving if versions else encoder
    served = [folder if one is encoder else one for one in bundles]
    name = next(name for name, one in names(served).items() if one is folder)
    bundle = load(folder)
    library, synced = opened(bundle, documents, knowledge, access=access, progress=progress)
    with ExitStack() as held:
        tickets = held.enter_context(closing(Tickets(place))) if place else None
        if tickets:
            publish(tickets, library, encoder_of(bundle, "match_prefix"))
        flywheel = None
        if versions and questions:
            options = {"documents": documents, "knowledge": knowledge, "tickets": place, "questions": questions}
            flywheel = Flywheel(versions, [f"--{key}={value}" for key, value in options.items()])
            held.enter_context(closing(flywheel))
        yield Desk(served, library, synced, partial(
            add_desk, encoder=name, library=library, tickets=tickets, agents=agents,
            follow=follower(library, folder, documents, access), flywheel=flywheel, wording=wording,
        ))  # fmt: skip


def encoder_among(bundles: Sequence[Path]) -> Path:
    """The first bundle that makes vectors.

    Raises:
        ModelError: none does.
    """
    for folder in bundles:
        if (folder / "task.json").is_file() and read_json(folder / "task.json").get("task") == "embed":
            return folder
    raise ModelError("support.no_encoder", folder=", ".join(map(str, bundles)))


def knowledge_beside(encoder: Path) -> Path:
    """Where a desk's knowledge lies unless somebody says otherwise."""
    return encoder.parent / "knowledge.sqlite"


def agents_among(owners: Sequence[str], names: str | None) -> list[str]:
    """The owners of keys who are agents: those named, with commas, else the owner of the only key there is.

    Raises:
        SourceError: somebody named has no key.
    """
    if names is None:
        return list(owners) if len(owners) == 1 else []
    found = [name.strip() for name in names.split(",")]
    for name in found:
        if name not in owners:
            raise SourceError("serve.agents", name=name, known=", ".join(owners))
    return found
