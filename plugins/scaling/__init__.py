"""Scaling components: B, G and C of the model E[n] = e G (B I + C) + b."""

from __future__ import annotations
