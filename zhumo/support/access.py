"""Who may see which documents: labels on files, by their paths, and on the owners of keys.

    # access.yaml
    documents:
      hr/*: [hr]              # who has one of these labels; where several patterns fit a file, one label of each
    keys:
      anna: [hr]              # owners of keys, as the key file names them; all others have no label

What no pattern fits is for everybody with a key.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zhumo.errors import SourceError, nearest
from zhumo.recipe import parse_yaml

Labels = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


@dataclass(frozen=True)
class Access:
    """documents: the labels one of which opens the files whose path fits a pattern; owners: the labels of those who
    have any."""

    documents: Mapping[str, list[str]]
    owners: Mapping[str, frozenset[str]]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    documents: dict[str, Labels]
    keys: dict[str, Labels] = Field(default_factory=dict)


def read_access(path: Path, owners: Collection[str]) -> Access:
    """What a file says of documents and of the owners of keys.

    Raises:
        RecipeError: it is not YAML.
        SourceError: it cannot be read or is not such a file; names an owner without a key, or a label that nobody has.
    """
    try:
        told = _File.model_validate(parse_yaml(path.read_text(encoding="utf-8"), str(path))[0])
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError("support.access_file", file=path, problem=error) from error
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise SourceError("support.access_file", file=path, problem=problem) from error
    for name in told.keys:
        if name not in owners:
            raise SourceError("support.access_owner", file=path, name=name, near=nearest(name, owners) or "-")
    held = {label for labels in told.keys.values() for label in labels}
    for label in (label for labels in told.documents.values() for label in labels):
        if label not in held:
            raise SourceError("support.access_label", file=path, label=label, near=nearest(label, held) or "-")
    return Access(told.documents, {name: frozenset(labels) for name, labels in told.keys.items()})
