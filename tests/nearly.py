"""Nested records compared as JSON holds them: words and whole numbers exactly, other numbers nearly."""


def differences(found, wanted, relative=1e-12, place=""):
    """Places where two nested records differ, with both values.

    The tolerance is for what `exp`, `log` and sums do in the last bits on other processors, no more.
    """
    if isinstance(found, dict) and isinstance(wanted, dict) and found.keys() == wanted.keys():
        return [line for key in found for line in differences(found[key], wanted[key], relative, f"{place}.{key}")]
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted))
        return [line for n, (a, b) in pairs for line in differences(a, b, relative, f"{place}[{n}]")]
    if type(found) is float and type(wanted) is float:
        same = found == wanted or abs(found - wanted) <= relative * abs(wanted) or (found != found and wanted != wanted)
    else:
        same = type(found) is type(wanted) and found == wanted
    return [] if same else [f"{place}: {found!r} against {wanted!r}"]
