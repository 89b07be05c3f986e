"""Links names of the API in prose to their reference entries.

Pages write names as plain inline code, `Media` or `VeriffClient.verify`. Explicit roles would link them too, but they
make the Markdown unreadable on a forge, and a writer forgets them. A name links to the one documented object that it
can mean; a name with several meanings stays plain.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary

from docutils import nodes
from sphinx import addnodes
from sphinx.ext.intersphinx import InventoryAdapter
from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PACKAGE: Final = "veriff_async"
# A name, perhaps awaited, perhaps called: `Media`, `await veriff.verify(...)`, `RetryPolicy(attempts=3)`.
NAME: Final = re.compile(r"(?:await |async with |async for )?(@?[A-Za-z_][\w.]*)(?:\(.*\))?(?: as \w+:?)?", re.DOTALL)
# The examples of all pages call these objects by these names.
VARIABLES: Final = {
    "client": "VeriffClient",
    "decision": "Decision",
    "inbox": "Inbox",
    "journal": "Journal",
    "receiver": "WebhookReceiver",
    "sandbox": "Sandbox",
    "session": "VerificationSession",
    "veriff": "VeriffClient",
}
# Members have common names, so a member alone is a name only if it has the underscore that prose never has.
MEMBERS: Final = frozenset({"attribute", "method", "property", "classmethod", "staticmethod"})
UNLINKED: Final = (nodes.title, nodes.reference, nodes.literal_block, addnodes.desc_signature, addnodes.pending_xref)


class Target(NamedTuple):
    """Where an object is documented."""

    name: str
    page: str
    anchor: str


class NameIndex:
    """The documented objects by every way to write them, `veriff_async.Media.from_base64` or `Media.from_base64`."""

    def __init__(self, env: BuildEnvironment) -> None:
        """Index the objects of the Python domain."""
        self._targets: defaultdict[str, set[Target]] = defaultdict(set)
        for name, entry in env.domains.python_domain.objects.items():
            if not entry.aliased:
                target = Target(name, entry.docname, entry.node_id)
                parts = name.split(".")
                for first in range(len(parts)):
                    spelled = ".".join(parts[first:])
                    if "." in spelled or entry.objtype not in MEMBERS or "_" in spelled.strip("_"):
                        self._targets[spelled].add(target)

    def find(self, spelled: str) -> Target | None:
        """Return the only object that a name can mean; the package's own names come first."""
        variable, dot, member = spelled.partition(".")
        targets = self._targets.get(spelled) or self._targets.get(f"{VARIABLES.get(variable)}{dot}{member}", set())
        first = [target for target in targets if target.name == f"{PACKAGE}.{spelled}"]
        found = first or list(targets)
        return found[0] if len({(target.page, target.anchor) for target in found}) == 1 else None


indexes: Final[WeakKeyDictionary[BuildEnvironment, NameIndex]] = WeakKeyDictionary()


def get_index(env: BuildEnvironment) -> NameIndex:
    """Return the index of all pages; Sphinx has read them before it resolves the first name."""
    if env not in indexes:
        indexes[env] = NameIndex(env)
    return indexes[env]


def find_literals(doctree: nodes.document) -> Iterator[nodes.literal]:
    """Yield the inline code of the text, not of titles, signatures, links, and cards that are links."""
    for literal in list(doctree.findall(nodes.literal)):
        parent = literal.parent
        while parent is not None and not isinstance(parent, UNLINKED) and "sd-card" not in parent.get("classes", ()):
            parent = parent.parent
        if parent is None:
            yield literal


def link_names(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn the names in the text of a page into links."""
    index = get_index(app.env)
    external = InventoryAdapter(app.env).main_inventory
    for literal in find_literals(doctree):
        match = NAME.fullmatch(literal.astext())
        if match is None:
            continue
        spelled = match[1].strip("@.")
        target = index.find(spelled)
        if target is not None:
            if not describes(literal, target.anchor):
                link = make_refnode(app.builder, docname, target.page, target.anchor, literal.deepcopy(), target.name)
                literal.replace_self(link)
        elif "." in spelled or spelled.endswith("Error"):
            for kind in ("class", "exception", "function", "module", "data"):
                item = external.get(f"py:{kind}", {}).get(spelled)
                if item is not None:
                    link = nodes.reference("", "", literal.deepcopy(), internal=False, refuri=item.uri)
                    literal.replace_self(link)
                    break


def describes(literal: nodes.literal, anchor: str) -> bool:
    """Return whether a literal stands in the description of the object that it names."""
    parent = literal.parent
    while parent is not None:
        if isinstance(parent, addnodes.desc) and any(anchor in part.get("ids", ()) for part in parent.children[:1]):
            return True
        parent = parent.parent
    return False


def resolve_type(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, child: nodes.Element
) -> nodes.reference | None:
    """Link a type of a signature by its public name.

    autodoc knows our types by the private module that defines them, and types that are imported for a checker only,
    such as ``ClientSession``, without a module.
    """
    name = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not name:
        return None
    target = get_index(env).find(name.rpartition(".")[2] if name.startswith(PACKAGE) else name)
    if target is not None:
        return make_refnode(app.builder, node["refdoc"], target.page, target.anchor, child, target.name)
    classes = InventoryAdapter(env).main_inventory.get("py:class", {})
    found = [item for full, item in classes.items() if full.endswith(f".{name}")]
    return nodes.reference("", "", child, internal=False, refuri=found[0].uri) if len(found) == 1 else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("doctree-resolved", link_names)
    app.connect("missing-reference", resolve_type, priority=400)  # intersphinx has the default, 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
