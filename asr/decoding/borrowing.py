"""Arrays that compiled code does not count references to.

Numba counts them with atomic operations wherever an array is taken out of a tuple or handed on,
which took three quarters of the search's time. It frees an array after the last use of one that
does count, and what is borrowed then dangles. Hence one rule: whoever lends an array uses it
himself after the last use of what is borrowed, or holds it as the caller; and nothing that is given
back is borrowed.
"""

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic

_codegen: Any = cgutils  # Numba's types are not known to all checkers


def _strip(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """An array, or a tuple with arrays, without its counter of references."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value=value)
        array.meminfo = _codegen.get_null_value(array.meminfo.type)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        kinds: Any = kind
        items = zip(kinds, _codegen.unpack_tuple(builder, value), strict=True)
        stripped = [_strip(context, builder, inner, item) for inner, item in items]
        return context.make_tuple(builder, kind, stripped)
    return value


def _type_borrowed(_context: Any, values: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _strip(context, builder, signature.args[0], arguments[0])

    return values(values), generate


borrowed: Any = intrinsic(_type_borrowed)
"""In compiled code: an array, or a tuple with arrays, that does not count references to itself."""
