"""What every Python process of the tests imports as it starts, since this folder is in its ``PYTHONPATH``."""

import spared_imports  # noqa: F401
import spared_work  # noqa: F401
import thin_network_known  # noqa: F401
