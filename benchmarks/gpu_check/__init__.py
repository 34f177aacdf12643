"""What only a card can show, in ten parts of at most eight minutes in all: ``make gpu-check``.

Every part runs in a process of its own, under a limit of its own: one that overruns is ended, says so, and the
next begins. Each leaves a JSON line on stdout: ``part``, ``name``, ``status``, ``reason``, ``seconds``, ``checks``
(whether each claim held) and ``numbers`` (by dotted names, with units). The first line is the card's, as part 0. A
table for people goes to stderr.

=============  =====================================================================================================
status         meaning
=============  =====================================================================================================
``passed``     all was shown, and every claim held
``failed``     a claim didn't hold, or an error came up; ``reason`` says which
``not shown``  something couldn't be shown here, such as without a package; ``reason`` says why, the rest held
``timed out``  the part was ended at its limit; what it had found out by then is in its line
=============  =====================================================================================================

The exit code is 0 where nothing failed or timed out, else 1; 2 where there is no card to check. Nothing is installed:
torch with CUDA is needed, and of other packages numpy, safetensors, threadpoolctl and pytest. Without make, and for
some of the parts:

    PYTHONPATH=.:platform:benchmarks python3 -m gpu_check --parts 1,4 >lines.jsonl

``parts.py`` has the table of parts, their limits, and an estimate of their seconds on two cards.
"""
