"""The storeys of the house: a module imports only from those below it."""

import ast
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

PACKAGE = ROOT / "streamtag"

# From the cellar to the roof; `train` is an annexe that only commands enter.
ORDER = [
    {
        "_core",
        "errors",
        "assets",
        "crew",
        "memory",
        "keys",
        "secret",
        "bridge_kinds",
        "moments",
        "leftovers",
        "keepalive",
    },
    {"feature_config"},
    {"audio", "features"},
    {"window", "smoothing", "level", "events", "message", "card", "settings", "stats"},
    {"stream_messages", "tag_messages", "feed_messages", "protocol"},
    {"encoding"},
    {"parsing"},
    {"messages", "spelling"},
    {"channels", "mood", "rehearsal"},
    {"monitor"},
    {"service", "exposition", "logs"},
    {"metrics_server"},
    {"operation"},
    {"bundle", "fusing"},
    {"tagger"},
    {"branch", "listener"},
    {"batch", "stream"},
    {"pipeline", "batchers"},
    {"engine"},
    {"causes", "network_tls", "network_words", "arrivals"},
    {"sources", "decoder", "wire", "backoff", "standing", "newest", "following", "backlog"},
    {"connection", "network_command", "play_list"},
    {"compact"},
    {"guard", "retention", "journal_file", "ledger"},
    {"journal", "journal_reader"},
    {"replay", "recovery", "sockets"},
    {"soundcard", "network", "network_pcm", "folder"},
    {"soundcard_process", "feed_socket"},
    {"publisher", "client", "intake"},
    {"supervisor"},
    {"offline", "taggram", "watch", "tuning", "complaints", "schema"},
    {
        "stream_config",
        "feed_config",
        "mqtt_config",
        "osc_config",
        "web_config",
        "webhook_config",
        "retained",
        "present",
    },
    {"config"},
    {"feed"},
    {"fitting", "outward"},
    {"bridges", "history_query"},
    {"history_sql"},
    {"history_span"},
    {"history"},
    {"accounts"},
    {"history_export", "history_taggram"},
    {"web_params", "web_guard", "web_state"},
    {"web_hub"},
    {"web_live"},
    {"web_app"},
    {"web"},
    {"vocabulary", "mqtt_topics"},
    {"mqtt_discovery", "mqtt_link", "webhook_body", "osc_messages", "osc_targets"},
    {"webhook_position", "webhook_delivery"},
    {"mqtt", "webhook", "osc"},
    {"report", "recordings", "usage", "reception", "loading", "mending", "commands"},
    {"check"},
    {"control", "changes"},
    {"outlet"},
    {"lineup"},
    {"reshaping"},
    {"orders"},
    {"daemon"},
    {"demo"},
    {"printing"},
    {"cli_train", "cli_ctl", "cli_feed", "cli_bridges", "cli_history"},
    {"cli", "__main__"},
]
STOREY = {name: i for i, names in enumerate(ORDER) for name in names}


def imported(path: Path, *, top_level_only: bool) -> set[str]:
    """Names of the streamtag modules that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("streamtag"):
            rest = node.module.split(".")[1:]
            names |= {rest[0]} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("streamtag.")}
    return names - {"__version__"}


def test_imports_point_down() -> None:
    for path in PACKAGE.glob("*.py"):
        if path.stem == "__init__":
            continue
        assert path.stem in STOREY, f"{path.name} has no storey: add it to ORDER"
        above = {
            name
            for name in imported(path, top_level_only=False) - {"train"}
            if name in STOREY and STOREY[name] > STOREY[path.stem]
        }
        assert not above, f"{path.name} imports from above: {sorted(above)}"


def test_only_the_cli_enters_the_annexe_and_only_inside_a_command() -> None:
    for path in PACKAGE.glob("*.py"):
        inside = "train" in imported(path, top_level_only=False)
        allowed = path.stem in ("cli", "cli_train")
        assert not inside or allowed, f"{path.name} imports streamtag.train"
        assert "train" not in imported(path, top_level_only=True), f"{path.name}, at import"


def test_the_daemon_does_not_load_the_trainer() -> None:
    code = (
        "import sys, streamtag.daemon.daemon; "
        "print([m for m in sys.modules if m.startswith(('streamtag.train', 'torchaudio', "
        "'sounddevice', 'matplotlib'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_client_needs_no_torch() -> None:
    code = "import sys, streamtag; streamtag.Subscriber; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
