"""Texts with `{placeholders}` in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...description.schema import DescriptionError, nearest

_VARIABLE = re.compile(r"\$\{CLUSTERJOB_[A-Z_]+\}")


class PlaceholderError(DescriptionError, KeyError):
    """A text has a placeholder that nothing is known for."""

    code = "placeholder"


def filled_in(text: str, values: Mapping[str, Any]) -> str:
    """`str.format`, but `${CLUSTERJOB_ID}` and the like stay. Raises PlaceholderError, DescriptionError."""
    guarded = _VARIABLE.sub(lambda match: match[0].replace("{", "{{").replace("}", "}}"), text)
    try:
        return guarded.format_map(values)
    except KeyError as error:
        name = str(error.args[0])
        remedy = nearest(name, values) or "give it as a resource or an attribute, or double the braces"
        raise PlaceholderError(f"placeholder {{{name}}} is not known", where="script", remedy=remedy) from None
    except (IndexError, ValueError, AttributeError) as error:
        raise DescriptionError(
            f"{error}", where="script", remedy="double braces that are none of a placeholder"
        ) from None
