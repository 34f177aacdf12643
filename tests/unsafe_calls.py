"""Finds, in Python source, what runs code or commands out of data."""

from __future__ import annotations

import ast
from collections.abc import Iterator

FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"),
    *("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.CLoader"),
    *("pandas.read_pickle", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"),
    *("mlflow.pyfunc.load_model", "mlflow.pytorch.load_model", "mlflow.sklearn.load_model"),
    *("numpy.lib.format.read_array",),
}
CHECKED = {"torch.load", "yaml.load", "yaml.load_all", "numpy.load"}
"""Safe with the right argument, by a call that can be read."""
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}


def unsafe_calls(source: str) -> list[str]:
    """``line: what`` for each import or use of the above, by whatever name it was imported."""
    tree = ast.parse(source)
    names = dict(_imported(tree))
    found: list[tuple[int, str]] = []
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [(node.lineno, module) for module in _modules(node) if module.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.Name | ast.Attribute):
            name = _dotted(node, names)
            if name in FORBIDDEN or (name in CHECKED and id(node) not in called):
                found.append((node.lineno, str(name)))
        elif isinstance(node, ast.Call):
            found += [(node.lineno, what) for what in _unsafe_arguments(node, names)]
    return [f"{line}: {what}" for line, what in sorted(set(found))]


def _unsafe_arguments(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    name = _dotted(call.func, names)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "shell" in given and not _is(given["shell"], False):
        yield "shell"
    if name == "torch.load" and not _is(given.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if (
        name == "numpy.load"
        and ("allow_pickle" in given or None in given)
        and not _is(given.get("allow_pickle"), False)
    ):
        yield "numpy.load with allow_pickle"
    if name in ("yaml.load", "yaml.load_all"):
        loader = given.get("Loader", call.args[1] if len(call.args) > 1 else None)
        if loader is None or _dotted(loader, names) not in SAFE_LOADERS:
            yield f"{name} without a safe loader"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The name in the file and the full name, for whatever was imported anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]


def _dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value, names)
        return f"{inner}.{node.attr}" if inner else None
    return None
