"""The verbs of the model store: what lies there, which version is in production, and who signed it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ganaug.terminal import Flag, console

if TYPE_CHECKING:
    from ganaug.store import StoredModel

EXIT_ERROR = 1

Store = Annotated[str, Parameter(help="The model store: a folder, or an address, as s3://bucket/models.")]
_STORE = "exported"


def models(name: str | None = None, *, store: Store = _STORE, verify: Flag = False) -> None:
    """List the models in a store, their aliases, and whether every file is what its card says.

    On this machine every hash is verified; at an address the sizes are compared, and the graphs are read only
    with --verify. With GANAUG_PUBLIC_KEY set, signatures are checked too.

    Examples:
        ganaug models

        ganaug models digits --store s3://bucket/models --verify

    Args:
        name: Only this model.
        store: The model store.
        verify: Read the graphs at an address and verify their hashes.
    """
    from ganaug.store import list_models

    found = list_models(store, name=name, hashes=verify)
    has_signatures = any(entry.signature != "unsigned" for entry in found) or _key_is_required()
    table = Table(title=f"Models in {escape(store)}", title_justify="left")
    columns = ("model", "version", "aliases", "classes", "recipe", "verdict", "state")
    for column in (*columns, *(["signature"] if has_signatures else [])):
        table.add_column(column)
    for entry in found:
        cells: list[Text | str] = [
            Text(entry.name),
            str(entry.version),
            Text(", ".join(entry.aliases)),
            Text(", ".join(entry.class_names)),
            entry.recipe,
            entry.verdict,
            _state(entry),
        ]
        table.add_row(*cells, *([_signature(entry)] if has_signatures else []))
    console.print(table)
    if any(_is_refused(entry) for entry in found):
        raise SystemExit(EXIT_ERROR)


def _key_is_required() -> bool:
    from ganaug.store.signatures import required_key

    return required_key(None) is not None


def _is_refused(entry: StoredModel) -> bool:
    return entry.problem is not None or entry.signature == "bad"


def _state(entry: StoredModel) -> Text:
    if entry.problem:
        return Text(entry.problem, style="red")
    return Text("verified", style="green") if entry.is_verified else Text("complete")


def _signature(entry: StoredModel) -> Text:
    style = {"bad": "red", "signed": "green"}.get(entry.signature, "")
    return Text(entry.signature, style=style)


def promote(model: str, *, to: str = "production", store: Store = _STORE) -> None:
    """Put a version into production, or give it another alias.

    Examples:
        ganaug promote digits

        ganaug promote digits@3

        ganaug promote digits@candidate --to staging --store s3://bucket/models

    Args:
        model: Name of the model, with @3 for version 3 or @ALIAS for the one with an alias; without: the candidate.
        to: The alias that is moved: production, candidate or one of your own.
        store: The model store.
    """
    from ganaug import store as stores
    from ganaug.store.names import split_suffix

    name, suffix = split_suffix(model)
    version, before = stores.promote(store, name, stores.CANDIDATE if suffix is None else suffix, to=to)
    _tell_move(to, name, version, before)


def rollback(name: str, *, to: int | None = None, store: Store = _STORE) -> None:
    """Put the version into production that was there before; the newer one stays in the store.

    Examples:
        ganaug rollback digits

        ganaug rollback digits --to 2 --store s3://bucket/models

    Args:
        name: Name of the model.
        to: Version; nothing: the one that was in production before the one that is, by the history.
        store: The model store.
    """
    from ganaug import store as stores

    version, before = stores.rollback(store, name, to)
    _tell_move(stores.PRODUCTION, name, version, before)


def _tell_move(alias: str, name: str, version: int, before: int | None) -> None:
    was = "nothing before" if before is None else f"version {before} before"
    told = "it was that already" if before == version else was
    console.print(Text(f"{alias} of {name} is version {version} ({told})"), soft_wrap=True)


def gc(name: str | None = None, *, keep: int = 5, dry_run: Flag = False, store: Store = _STORE) -> None:
    """Remove old versions, and what killed publishers left; never a version that has an alias.

    Examples:
        ganaug gc --dry-run

        ganaug gc digits --keep 3 --store s3://bucket/models

    Args:
        name: Only this model.
        keep: Newest versions of each model that stay, at least 1.
        dry_run: Tell what would be removed, and remove nothing.
        store: The model store.
    """
    from ganaug import store as stores

    removed = stores.gc(store, name, keep=keep, dry_run=dry_run)
    for entry in removed:
        what = f"{entry.name}@{entry.path}" if entry.what == "version" else f"{entry.name}/{entry.path}"
        console.print(Text(f"{entry.what} {what}: {entry.bytes} bytes"), soft_wrap=True)
    total = sum(entry.bytes for entry in removed)
    verb = "would be removed" if dry_run else "removed"
    console.print(Text(f"{len(removed)} {verb}, {total} bytes"), soft_wrap=True)


def history(name: str, *, store: Store = _STORE) -> None:
    """Tell who published, promoted, rolled back and removed which version of a model, when, and of which run.

    Who is user@host, or what the environment variable GANAUG_WHO said.

    Examples:
        ganaug history digits

        ganaug history digits --store s3://bucket/models

    Args:
        name: Name of the model.
        store: The model store.
    """
    from ganaug import store as stores

    table = Table(title=f"History of {escape(name)} in {escape(store)}", title_justify="left")
    for column in ("when (UTC)", "who", "what", "version", "alias", "before", "run"):
        table.add_column(column, overflow="fold")
    for event in stores.history(name, store):
        table.add_row(
            Text(re.sub(r"\.\d+|\+00:00$", "", event.when)),
            Text(event.who),
            event.what,
            str(event.version),
            Text(event.alias),
            "" if event.before is None else str(event.before),
            Text("; ".join(f"{key}: {value}" for key, value in event.run.items())),
        )
    console.print(table)


def keys(path: Path) -> None:
    """Make a key pair to sign models with: PATH.key, which is secret and not encrypted, and PATH.pub.

    The files are minisign's, which can use them too.

    Examples:
        ganaug keys ~/.ganaug/team

    Args:
        path: The files, but for their endings.
    """
    from ganaug import minisign

    public = minisign.make_keys(path.expanduser())
    console.print(
        Text(
            f"{path}{minisign.SECRET} signs: keep it to yourself (--publish.sign-with, ganaug sign --key)\n"
            f"{path}{minisign.PUBLIC} checks: give it to whoever loads models (GANAUG_PUBLIC_KEY)\n{public.text}"
        ),
        soft_wrap=True,
    )


def sign(model: str, *, key: Path, store: Store = _STORE) -> None:
    """Sign a model's card, and with it all of its graphs: card.json.minisig beside it.

    `--publish.sign-with KEY` signs what a run publishes.

    Examples:
        ganaug sign digits@3 --key ~/.ganaug/team.key

        ganaug sign s3://bucket/models/digits --key team.key

    Args:
        model: A model folder, a name that `ganaug models` lists, or an address.
        key: The secret key.
        store: The model store.
    """
    from ganaug import store as stores

    place = stores.sign(model, key.expanduser(), store)
    console.print(Text(f"signed: {place}"), soft_wrap=True)


def card(
    model: str,
    *,
    license: str = "unknown",  # noqa: A002 - what the option is called
    source: str = "",
    print: Flag = False,  # noqa: A002 - what the option is called
) -> None:
    """Write README.md and samples.png into a model's folder, which makes it a Hugging Face model repository.

    `publish` does that too. What is there is written anew; the model itself stays as it is.

    Examples:
        ganaug card digits --license cc-by-4.0

        ganaug card exported/digits@1 --print

    Args:
        model: A model folder, or a name that `ganaug models` lists.
        license: Licence of the model, in Hugging Face's words: cc-by-4.0, mit, other.
        source: Where the training images are from, in a sentence; what attribution their licence asks for.
        print: Print the README.md instead, and write nothing.
    """
    from ganaug.card import ModelCard
    from ganaug.model_page import write_model_page
    from ganaug.model_readme import README_FILE, SAMPLES_FILE, model_readme
    from ganaug.store import resolve

    folder = resolve(model)
    about = ModelCard.load(folder)
    if print:
        sys.stdout.write(model_readme(about, license=license, source=source))
        return
    write_model_page(folder, about, license=license, source=source)
    console.print(Text(f"{README_FILE} (licence {license}) and {SAMPLES_FILE} in {folder}"), soft_wrap=True)


VERBS = (models, card, promote, rollback, gc, history, keys, sign)
