"""`python -m sweeps.mcp_server URL`: tools by which an agent uses the experiment service, as one of its users.

The Model Context Protocol over stdin and stdout (https://modelcontextprotocol.io). Needs the extra `mcp`.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from analysis.cli import Parser
from sweeps.client import TOKEN, Client
from trainables.errors import UserError, UserErrors

if TYPE_CHECKING:
    from mcp.server import MCPServer

EXAMPLE = f"""example:
  {TOKEN}=… python -m sweeps.mcp_server http://127.0.0.1:8700

exit codes: 0 when the agent leaves, 2 wrong arguments, no token or no package `mcp`"""

INSTRUCTIONS = """Hyper-parameter sweeps for fine-tuning language models. Plan a config before you submit it, and read \
the plan's findings. A sweep takes minutes to days: look at it again later. A gain counts only with its interval."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = Parser("python -m sweeps.mcp_server", "Gives an agent the experiment service's tools.", EXAMPLE)
    parser.add_argument("url", metavar="URL", help="the service's address")
    return parser.run(_serve, arguments)


def _serve(given: Namespace) -> None:
    client = Client(given.url)
    make_server(client).run("stdio")


def make_server(client: Client) -> MCPServer:
    """The server with its tools, each a method of the client.

    Raises:
        UserError: The package `mcp` is missing.
    """
    try:
        from mcp.server import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
    except ModuleNotFoundError:
        raise UserError("mcp", "must be installed", "no such package", "pip install 'llm-sweeps[mcp]'") from None
    server = MCPServer("llm-sweeps", instructions=INSTRUCTIONS, log_level="WARNING")

    def told(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*given: Any, **more: Any) -> Any:
            try:
                return method(*given, **more)
            except (UserError, UserErrors) as error:  # the agent is to read it
                raise ToolError(str(error)) from None

        return call

    tools: dict[str, Callable[..., Any]] = {
        "list_sweeps": client.list,
        "get_sweep": client.sweep,
        "get_leaderboard": client.leaderboard,
        "get_curve": client.curve,
        "get_queue": client.queue,
        "plan_sweep": client.plan,
        "submit_sweep": client.submit,
        "stop_sweep": client.stop,
        "resume_sweep": client.resume,
        "drop_trial": client.drop_trial,
    }
    for name, method in tools.items():
        server.add_tool(told(method), name=name)
    return server


if __name__ == "__main__":
    sys.exit(main())
