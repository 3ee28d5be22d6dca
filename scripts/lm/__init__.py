"""From text to model: the rooms, each of which may use those before it: text, arch, fast, file, measure, train."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the repository
