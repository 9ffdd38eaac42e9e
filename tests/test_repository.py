# SPDX-License-Identifier: Apache-2.0
"""Rules that hold for the whole tree: licences, locks, imports, and Vyper's known defects."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {".git", ".venv", "node_modules", ".build", ".gridcommons", "__pycache__"}

# Later packages may import earlier ones, never the other way.
ORDER = {"dao": 0, "meters": 1, "forecasting": 2, "dashboard": 3, "scripts": 4}
EDGES = {"click": {"scripts"}, "streamlit": {"dashboard"}, "altair": {"dashboard"}}


def tracked() -> list[Path]:
    """Files of the repository, without what is ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:  # an unpacked archive
        paths = [
            path
            for path in ROOT.rglob("*")
            if not SKIPPED & set(path.relative_to(ROOT).parts) and ".egg-info" not in str(path)
        ]
    return sorted(path for path in paths if path.is_file())


FILES = tracked()
VYPER = [path for path in FILES if path.suffix in (".vy", ".vyi")]
PYTHON = [path for path in FILES if path.suffix == ".py"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_source_file_names_its_licence() -> None:
    suffixes = {".py", ".vy", ".vyi", ".js", ".css", ".sh", ".toml"}
    missing = []
    for path in FILES:
        if path.suffix not in suffixes and path.name not in ("Makefile", "run"):
            continue
        if not path.read_bytes().strip():
            continue  # an empty file marks a package
        licence = "AGPL-3.0-only" if name_of(path).startswith("contracts/") else "Apache-2.0"
        head = "\n".join(path.read_text().splitlines()[:5])
        if f"SPDX-License-Identifier: {licence}" not in head:
            missing.append(name_of(path))
    assert missing == []


def test_locks_name_no_registry() -> None:
    locks = [path for path in FILES if path.suffix == ".lock" or path.name == "package-lock.json"]
    assert {"requirements.lock", "package-lock.json"} <= {path.name for path in locks}
    for path in locks:
        text = path.read_text()
        assert "://" not in text, f"{path.name} carries an address"
        assert "--index" not in text
        assert '"resolved"' not in text


def test_every_locked_package_has_a_version_and_hashes() -> None:
    for path in FILES:
        if path.suffix != ".lock":
            continue
        entries = [line for line in path.read_text().splitlines() if line[:1].isalnum()]
        assert entries
        for entry in entries:
            assert "==" in entry, f"{path.name}: {entry} has no exact version"
            assert entry.endswith("\\"), f"{path.name}: {entry} has no hash"


def test_the_test_lock_agrees_with_the_runtime_lock() -> None:
    def versions(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text().splitlines()
        pairs = [line.split(" ")[0].split("==") for line in lines if line[:1].isalnum()]
        return {pair[0]: pair[1] for pair in pairs}

    runtime, testing = versions("requirements.lock"), versions("requirements-test.lock")
    assert {name for name in runtime.keys() & testing.keys() if runtime[name] != testing[name]} == (
        set()
    )


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def test_imports_point_one_way() -> None:
    wrong = []
    for path in PYTHON:
        package = path.relative_to(ROOT).parts[0]
        if package not in ORDER:
            continue
        for imported in imports(path):
            if ORDER.get(imported, -1) > ORDER[package] or imported == "tests":
                wrong.append(f"{name_of(path)} imports {imported}")
            if package not in EDGES.get(imported, {package}):
                wrong.append(f"{name_of(path)} imports {imported}")
    assert wrong == []


@pytest.mark.parametrize("path", VYPER, ids=name_of)
def test_contract_sources_are_plain_ascii(path: Path) -> None:
    content = path.read_bytes()
    assert content.isascii()  # a byte order mark is not ASCII either
    assert b"\x0c" not in content


def unsafe_places(source: str, path: Path | None = None) -> list[str]:
    """Where a Vyper source comes near a known defect of the compiler, as `line: what`.

    Works on the type-checked syntax tree, so that nothing hides behind a name.
    """
    from vyper import ast as tree
    from vyper.cli.vyper_compile import get_search_paths
    from vyper.compiler.input_bundle import FileInput, FilesystemInputBundle
    from vyper.compiler.phases import CompilerData
    from vyper.compiler.settings import Settings
    from vyper.semantics.types import DArrayT, SArrayT
    from vyper.semantics.types.function import ContractFunctionT, MemberFunctionT

    name = path or ROOT / "contracts" / "Sample.vy"
    bundle = FilesystemInputBundle(get_search_paths([str(ROOT / "contracts")]))
    file = FileInput(contents=source, source_id=-1, path=name, resolved_path=name)
    module = CompilerData(
        file, bundle, settings=Settings(evm_version="prague")
    ).annotated_vyper_module

    def changes_state(call: tree.Call) -> bool:
        kind = call.func._metadata.get("type")
        if isinstance(kind, ContractFunctionT):
            return bool(kind.is_mutable)
        if isinstance(kind, MemberFunctionT):
            return bool(kind.is_modifying)
        builtin = getattr(call.func, "id", "")
        return builtin.startswith(("create_", "raw_", "send", "selfdestruct"))

    found = []
    for node in module.get_descendants():
        if isinstance(node, tree.IfExp):
            if node.get_descendants(tree.BitOr):
                found.append(f"{node.lineno}: ternary on an expression with |")
            kind = node._metadata.get("type")
            if isinstance(kind, (DArrayT, SArrayT)) and isinstance(
                kind.value_type, (DArrayT, SArrayT)
            ):
                found.append(f"{node.lineno}: ternary between nested arrays")
        if not isinstance(node, tree.Call) or not isinstance(node.func, tree.Name):
            continue
        if node.func.id in ("slice", "concat"):
            inner = [
                one
                for arg in node.args
                for one in arg.get_descendants(tree.Call, include_self=True)
            ]
            if any(changes_state(one) for one in inner):
                found.append(f"{node.lineno}: side effect inside {node.func.id}")
        if node.func.id == "create_from_blueprint" and any(
            keyword.arg == "code_offset" for keyword in node.keywords
        ):
            found.append(f"{node.lineno}: fixed code_offset in create_from_blueprint")
    return found


@pytest.mark.parametrize("path", [path for path in VYPER if path.suffix == ".vy"], ids=name_of)
def test_contracts_stay_clear_of_known_compiler_defects(path: Path) -> None:
    assert unsafe_places(path.read_text(), path) == []


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("return 1 if (a | 2) > 3 else 0", "expression with |"),
        ("return a | 2 if a > 3 else 0", "expression with |"),
        (
            "x: uint256[2][2] = self.grid if a > 1 else self.other\n    return x[0][0]",
            "nested arrays",
        ),
        ("return len(slice(self.text, 0, self.bump()))", "side effect inside slice"),
        ("return len(concat(b'a', slice(self.text, 0, self.stack.pop())))", "inside slice"),
        ("return len(concat(self.name(), b'a'))", "side effect inside concat"),
        (
            "c: address = create_from_blueprint(msg.sender, code_offset=3)\n    return 1",
            "code_offset",
        ),
    ],
)
def test_each_known_defect_would_be_seen(body: str, what: str) -> None:
    source = f"""# pragma version ~=0.4.3
grid: uint256[2][2]
other: uint256[2][2]
text: Bytes[32]
count: uint256
stack: DynArray[uint256, 4]

@internal
def bump() -> uint256:
    self.count += 1
    return self.count

@internal
def name() -> Bytes[8]:
    self.count += 1
    return b"abc"

@external
def run(a: uint256) -> uint256:
    {body}
"""
    assert any(what in place for place in unsafe_places(source))


def test_harmless_code_is_not_called_unsafe() -> None:
    source = """# pragma version ~=0.4.3
@external
@view
def run(a: uint256, text: Bytes[32]) -> uint256:
    b: uint256 = a | 2
    c: uint256 = b if a > 3 else 0
    return c + len(slice(text, 0, min(a, len(text))))
"""
    assert unsafe_places(source) == []
