"""Spares the processes of tests work that no result depends on.

Ray starts seven processes of its own, and three of them serve its dashboard, its autoscaler and the logs that its
driver prints: a job asks for none of these, and they take three seconds. The figures of a stage are made and written
as ever, and left blank: to paint them takes a worker of a small sweep three seconds, too.
"""

import os

from when_imported import when_imported


def spare_services(node):
    """No dashboard, autoscaler or reader of logs; the node's agent serves its node alone."""

    def nothing(self, **_):
        """Starts nothing."""

    def start_raylet(self, *words):
        from unittest.mock import patch

        missing = ImportError("the tests spare it")
        with patch("ray._private.utils.get_dashboard_dependency_error", return_value=missing):
            start(self, *words)

    start, node.Node.start_raylet = node.Node.start_raylet, start_raylet
    node.Node.start_monitor = node.Node.start_log_monitor = node.Node.start_api_server = nothing


def leave_blank(context):
    """Nobody arranges and paints the figures of stages; those of pages are painted."""

    def save_blank(folder, name, figure):
        figure.draw = lambda renderer: None
        save(folder, name, figure)

    save, context.save_figure = context.save_figure, save_blank


if "LATENTSWEEP_TEST_UNSPARED" not in os.environ:  # see ``command_line``
    when_imported("ray._private.node", spare_services)
    when_imported("latentsweep.stages.context", leave_blank)
