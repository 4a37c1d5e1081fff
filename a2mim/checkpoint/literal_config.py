"""The values in a written config, read without running it."""

import ast


def literal_config(text: str) -> dict[str, object] | None:
    """What the text of a config assigns, name by name; None if it is no written config.

    mmengine writes a config as assignments of literals and ``dict(...)``. Any other Python file,
    such as a script that lies in the same folder, is none.
    """
    try:
        statements = ast.parse(text).body
        return {_name(statement): _value(statement.value) for statement in statements}
    except (SyntaxError, ValueError):
        return None


def _name(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    raise ValueError(f'{ast.unparse(statement)} assigns nothing to a name')


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        # Keys that are no names, such as 'a.b', stand in a dict within the call.
        named = {keyword.arg: _value(keyword.value) for keyword in node.keywords}
        return {key: value for arg in node.args for key, value in _value(arg).items()} | named
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _value(value)
            for key, value in zip(node.keys, node.values, strict=True)
        }
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Name):  # inf, nan or a class
        return node.id
    return ast.literal_eval(node)
