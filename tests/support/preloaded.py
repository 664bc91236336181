"""What the fork server of `support.forked` imports before it forks. It starts no thread."""

import gc

import httpx  # noqa: F401
import paho.mqtt.client  # noqa: F401
import torch  # noqa: F401

import streamtag.bridges.mqtt.bridge
import streamtag.bridges.osc
import streamtag.bridges.web.server
import streamtag.bridges.webhook.bridge
import streamtag.cli.main
import streamtag.cli.watch
import streamtag.daemon.check
import streamtag.daemon.control
import streamtag.daemon.daemon
import streamtag.daemon.engine_loop
import streamtag.daemon.engine_thread
import streamtag.daemon.gateway
import streamtag.engine.engine
import streamtag.model.tagger
import streamtag.sources.factory  # noqa: F401

gc.collect()
gc.freeze()  # the processes share this memory: a collection must not write to it
