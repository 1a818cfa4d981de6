"""A Sphinx extension: pages of the library, made from its docstrings when the book is built.

    ```{library} formats
    ```

becomes the text of the room and, for everything public in it, a section with its signature, its docstring and a link
to its source. Docstrings here are plain text in NumPy's layout, not reStructuredText: `2**40` and `|x|` are meant as
they stand, so that this reads the layout itself. Each section can be referred to: {py:func}`prunequant.formats.pack`.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from types import ModuleType
from typing import Any

import public
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

SECTIONS = (
    "Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns", "Notes", "References", "See Also", "Examples",
)  # fmt: skip
LISTED = SECTIONS[:6]  # in these a line such as `x : (n,) integers` begins an entry
INLINE = re.compile(
    r"``(?P<code>.+?)``|`(?P<name>[^`]+)`|(?<![\w$])\$(?P<math>[^$\s][^$]*?)\$(?![\w$])"
    r"|(?<![\w)*])\*\*(?=\S)(?P<strong>[^*]+?)(?<=\S)\*\*(?![\w*])"
    r"|(?<![\w)*])\*(?P<soft>[A-Za-z][^*\n]*?[A-Za-z])\*(?![\w*])",
    re.DOTALL,
)
BULLET = re.compile(r"^(?:[-*•]|\d+[.)])\s+")
ENTRY = re.compile(r"^(\S[^:]*?)\s+:\s+(.*)$")


class Text:
    """Docstrings as nodes. `names` leads from a public name to its anchor on the page that is being made."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def inline(self, text: str) -> list[nodes.Node]:
        """Code, formulas and stressed words, the rest as it stands; a public name of the page becomes a link."""
        made: list[nodes.Node] = []
        at = 0
        for match in INLINE.finditer(text):
            made.append(nodes.Text(text[at : match.start()]))
            at = match.end()
            code = match["code"] or match["name"]
            if match["math"]:
                made.append(nodes.math(match["math"], match["math"]))
            elif match["strong"]:
                made.append(nodes.strong("", match["strong"]))
            elif match["soft"]:
                made.append(nodes.emphasis("", match["soft"]))
            if code is None:
                continue
            literal = nodes.literal(code, code)
            target = self.names.get(code.partition("(")[0])
            made.append(nodes.reference("", "", literal, internal=True, refid=target) if target else literal)
        made.append(nodes.Text(text[at:]))
        return [node for node in made if node.astext()]

    def paragraph(self, lines: list[str]) -> nodes.paragraph:
        return nodes.paragraph("", "", *self.inline(" ".join(line.strip() for line in lines)))

    def prose(self, lines: list[str]) -> list[nodes.Node]:
        """Paragraphs, lists, examples, and what is indented as it stands."""
        made: list[nodes.Node] = []
        for block in blocks(lines):
            if block[0].lstrip().startswith(">>>"):
                code = "\n".join(line[indent(block) :] for line in block)
                made.append(nodes.literal_block(code, code, language="pycon", force=True))
            elif indent(block) >= 2:
                code = "\n".join(line[indent(block) :] for line in block)
                made.append(nodes.literal_block(code, code, language="none"))
            elif BULLET.match(block[0]):
                made.append(self.bullets(block))
            else:
                start = next((i for i, line in enumerate(block) if BULLET.match(line)), None)
                begins = start is not None and block[start - 1].rstrip().endswith(":")
                made.append(self.paragraph(block[:start] if begins else block))
                if begins:
                    made.append(self.bullets(block[start:]))
        return made

    def bullets(self, block: list[str]) -> nodes.bullet_list:
        items: list[list[str]] = []
        for line in block:
            if BULLET.match(line):
                items.append([BULLET.sub("", line)])
            else:
                items[-1].append(line)
        return nodes.bullet_list("", *(nodes.list_item("", self.paragraph(item)) for item in items))

    def entries(self, lines: list[str]) -> list[nodes.Node]:
        """The entries of a section such as Parameters: what is named, and what is said of it."""
        made: list[tuple[str, list[list[str]]]] = []
        for line in lines:
            found = ENTRY.match(line)
            if found:
                made.append((found[1], [[found[2]]]))
            elif not line.strip():
                continue
            elif line[0] == " " and made:
                said = made[-1][1]
                # NumPy's own layout: the kind on the first line, a sentence of its own below.
                apart = line.strip()[0].isupper() and len(said) == 1 and said[0][-1][-1] not in ".,;:—"
                said.append([line]) if apart and len(said[0]) == 1 else said[-1].append(line)
            elif made and made[-1][0] == "":
                made[-1][1][-1].append(line)
            else:
                made.append(("", [[line]]))
        if not any(term for term, _ in made):
            return self.prose(lines)
        items = []
        for term, said in made:
            body = nodes.definition("", *(self.paragraph(part) for part in said))
            names = [nodes.literal(word, word) for word in re.split(r",\s*", term)] if term else [nodes.Text("")]
            spaced = [node for name in names for node in (nodes.Text(", "), name)][1:]
            items.append(nodes.definition_list_item("", nodes.term("", "", *spaced), body))
        return [nodes.definition_list("", *items, classes=["pq-entries"])]

    def docstring(self, text: str) -> list[nodes.Node]:
        """All of a docstring."""
        made: list[nodes.Node] = []
        for title, lines in sections(text):
            if title:
                made.append(nodes.paragraph("", "", nodes.strong("", title), classes=["pq-rubric"]))
            made += self.entries(lines) if title in LISTED else self.prose(lines)
        return made


def sections(text: str) -> list[tuple[str, list[str]]]:
    """The parts of a docstring by their underlined titles; the first has none."""
    lines = text.splitlines()
    found: list[tuple[str, list[str]]] = [("", [])]
    skip = False
    for line, below in zip(lines, [*lines[1:], ""]):
        if skip:
            skip = False
        elif line in SECTIONS and set(below) == {"-"}:
            found.append((line, []))
            skip = True
        else:
            found[-1][1].append(line)
    return found


def indent(block: list[str]) -> int:
    return min(len(line) - len(line.lstrip()) for line in block)


def blocks(lines: list[str]) -> list[list[str]]:
    """Runs of lines: parted by empty lines, and where text becomes an example or an indented piece."""
    found: list[list[str]] = []
    kind = ""
    for line in lines:
        if not line.strip():
            kind = ""
            continue
        if kind == "example":
            now = "example"
        elif line.lstrip().startswith(">>>"):
            now = "example"
        elif line.startswith("  ") and kind not in ("text", "list"):
            now = "indented"
        else:
            now = "list" if kind == "list" or (BULLET.match(line) and kind != "text") else "text"
        if now != kind:
            found.append([])
        kind = now
        found[-1].append(line)
    return found


class Library(SphinxDirective):
    """The room named by its argument, in full."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        room = importlib.import_module(f"prunequant.{self.arguments[0]}")
        for tool in (__file__, public.__file__):
            self.env.note_dependency(tool)
        self.depend(room)
        self.text = Text({})
        modules, waiting = [], [room]
        while waiting:
            module = waiting.pop(0)
            found = public.entries(module)
            modules.append((module, found))
            waiting += [entry.thing for entry in found if entry.kind == "module"]
        for module, found in modules[1:]:  # a module of the room comes before what it holds
            if any(entry.kind != "module" for entry in found):
                name = module.__name__.removeprefix("prunequant.")
                self.text.names[name.rpartition(".")[2]] = name
        for _, found in modules:
            for entry in found:
                if entry.kind != "module":
                    self.text.names.setdefault(entry.short, entry.name)
        made = [code(f"from prunequant import {self.arguments[0]}"), *self.text.docstring(inspect.getdoc(room) or "")]
        for module, found in modules:
            shown = [entry for entry in found if entry.kind != "module"]
            if module is room:
                made += self.overview(shown) + [self.entry(entry, room) for entry in shown]
            elif shown:
                made.append(self.module(module, shown))
        return made

    def depend(self, thing: Any) -> None:
        """Read the page anew when the source of this changes."""
        self.env.note_dependency(inspect.getfile(public.plain(thing)))

    def module(self, module: ModuleType, shown: list[public.Entry]) -> nodes.section:
        self.depend(module)
        name = module.__name__.removeprefix("prunequant.")
        section = self.section(name, nodes.literal(name, name), "module")
        section += self.text.docstring(inspect.getdoc(module) or "")
        section += self.overview(shown)
        section += [self.entry(entry, module) for entry in shown]
        return section

    def section(self, name: str, title: nodes.Node, kind: str) -> nodes.section:
        """A section with an anchor that the whole book can refer to."""
        section = nodes.section("", nodes.title("", "", title), ids=[name], names=[name])
        self.state.document.ids.setdefault(name, section)
        domain = self.env.get_domain("py")
        if kind == "module":
            domain.note_module(f"prunequant.{name}", name, "", "", False)
        domain.note_object(f"prunequant.{name}", kind, name, location=self.get_location())
        return section

    def overview(self, shown: list[public.Entry]) -> list[nodes.Node]:
        """Each name with the first sentence of its docstring."""
        items = []
        for entry in shown:
            link = nodes.reference("", "", nodes.literal("", entry.short), internal=True, refid=entry.name)
            first = summary(entry)
            said = [nodes.Text(": "), *self.text.inline(first)] if first else []
            items.append(nodes.list_item("", nodes.paragraph("", "", link, *said)))
        return [nodes.bullet_list("", *items, classes=["pq-overview"])] if len(items) > 1 else []

    def entry(self, entry: public.Entry, module: ModuleType) -> nodes.section:
        section = self.section(entry.name, nodes.literal("", entry.short), entry.kind)
        if entry.kind == "data":
            section += code(public.value(entry, module))
            return section
        self.depend(entry.thing)
        signature = public.signature(entry)
        if signature:
            section += code(signature)
        section += self.text.docstring(written(entry.thing))
        if entry.kind == "class":
            section += self.members(entry)
        section += nodes.paragraph("", "", self.source(entry.thing), classes=["pq-source"])
        return section

    def members(self, entry: public.Entry) -> list[nodes.Node]:
        made: list[nodes.Node] = []
        if issubclass(entry.thing, enum.Enum):
            made.append(code("\n".join(f"{entry.short}.{one.name} = {one.value!r}" for one in entry.thing)))
        bases = [base for base in entry.thing.__mro__[1:] if base.__name__ in self.text.names][:1]
        if bases:
            link = self.text.inline(f"`{bases[0].__name__}`")
            also = ", and these:" if public.members(entry) else "."
            made.append(nodes.paragraph("", "", nodes.Text("It has what "), *link, nodes.Text(f" has{also}")))
        items = []
        for member in public.members(entry):
            definition = nodes.definition("", *self.text.docstring(written(member.thing)))
            term = nodes.term("", "", nodes.literal("", public.signature(member) or member.short))
            items.append(nodes.definition_list_item("", term, definition))
        if items:
            made.append(nodes.definition_list("", *items, classes=["pq-members"]))
        return made

    def source(self, thing: Any) -> nodes.reference:
        """A link to the line on the page that tools/sourcepages.py makes."""
        thing = public.plain(thing)
        path = public.file_of(thing).relative_to(public.SOURCE).as_posix()
        up = "../" * self.env.docname.count("/")
        return nodes.reference("", "source", refuri=f"{up}source/src/{path}.html#{thing.__qualname__}", internal=True)


def written(thing: Any) -> str:
    """The docstring of a thing itself; a dataclass that has none is given its signature by Python: that is no text."""
    text = inspect.getdoc(public.inside(thing)) or ""
    made_up = inspect.isclass(thing) and text.startswith(f"{thing.__name__}(")
    inherited = inspect.isclass(thing) and not vars(thing).get("__doc__")
    return "" if made_up or inherited else text


def summary(entry: public.Entry) -> str:
    """The first sentence of a docstring."""
    text = written(entry.thing) if entry.kind != "data" else ""
    first = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[a-z)`\]])[.] ", first)[0].rstrip(".")


def code(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="python", force=True, classes=["pq-signature"])


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("library", Library)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
