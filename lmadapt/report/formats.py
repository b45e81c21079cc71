"""Numbers as the page and the Markdown summary print them."""

MINUS = "\N{MINUS SIGN}"


def percent(share: float) -> str:
    """A share of 1 in percent, to a tenth."""
    return f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference of shares of 1 in percentage points, signed, to a tenth."""
    return f"{100 * share:+.1f}".replace("-", MINUS)


def bits(value: float) -> str:
    """A difference in bits, signed, to a thousandth."""
    return f"{value:+.3f}".replace("-", MINUS)


def p_value(p: float) -> str:
    """A p-value to a thousandth; smaller ones as `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def gigabytes(size: float) -> str:
    """Bytes in GB (1e9 bytes), to a hundredth."""
    return f"{size / 1e9:.2f}"
