"""Makes audit documents and gate records for the tests. TEST-ONLY numbers: made up."""

from __future__ import annotations

from typing import Any

from make_sweep import verdict


def make_file(name: str = "models/small.pt", params: int = 50_000) -> dict[str, Any]:
    """The record of one audited file: two layers, float16."""
    size = {"bytes_float16": 2 * params, "macs_official": 600 * params}
    rules = {**verdict(2023, size), "label": "2023", "fixes": ["a fix"]}
    for check in rules["checks"]:
        check["headroom_percent"] = 100 * check["margin"] / check["limit"]
    layers = [
        {
            "name": layer,
            "kind": "Conv2d",
            "params": share,
            "nonzero_params": share,
            "param_bytes": 2 * share,
            "macs": 600 * share,
            "macs_official": 600 * share,
            "output_shape": [1, 8, 40, 51],
            "dtype": "float16",
            "weight_params": share,
            "calls": 1,
        }
        for layer, share in (("stem", params // 5), ("body", params - params // 5))
    ]
    return {
        "file": name,
        "sha256": "ab" * 32,
        "file_bytes": 2 * params + 1000,
        "status": "exact",
        "convention": "strict",
        "input_shape": [1, 1, 40, 51],
        "verdicts": [rules],
        "audit": {
            "schema": 1,
            "macs": 600 * params,
            "params": params,
            "nonzero_params": params,
            "param_bytes": 2 * params,
            "bytes_by_dtype": {"float16": 2 * params},
            "buffer_bytes": 16,
            "scale_bytes": 0,
            "deployed_bytes": None,
            "peak_activation_bytes": 1234,
            "peak_activation_layer": "stem",
            "status": "exact",
            "statuses": {"macs": "exact"},
            "layers": layers,
            "convention": "strict",
            "input_shape": [1, 1, 40, 51],
            "macs_by_convention": {"strict": 600 * params, "nessi": 600 * params},
            "uncounted": [],
            "notes": ["a note"],
            "format": "compressor-model",
        },
    }


def make_audit(*files: dict[str, Any]) -> dict[str, Any]:
    """What `compressor audit --format json` writes."""
    found = list(files) or [make_file()]
    return {"schema": 1, "versions": {"compressor": "0.1.0"}, "files": found}


def make_gate(name: str = "models/small.pt") -> dict[str, Any]:
    """What `compressor gate --format json` writes: one limit kept, one broken."""
    checks = [
        {
            "index": index,
            "id": check,
            "name": title,
            "subject": name,
            "level": "error",
            "status": status,
            "value": value,
            "limit": limit,
            "unit": unit,
            "evidence": "V",
        }
        for index, (check, title, status, value, limit, unit) in enumerate(
            (
                ("limit-bytes", "memory", "pass", 100_000, 128_000, "B"),
                ("limit-macs", "MACs", "fail", 45_000_000, 30_000_000, "MACs"),
            )
        )
    ]
    finding = {
        "id": "limit-macs",
        "check": 1,
        "level": "error",
        "status": "fail",
        "file": name,
        "line": None,
        "message": "MACs is 45,000,000, allowed 30,000,000",
        "fix": "remove 15,000,000 MACs",
        "waiver": None,
    }
    return {
        "schema": "compressor-gate",
        "schema_version": 1,
        "status": "fail",
        "exit_code": 1,
        "counts": {
            "checks": 2,
            "passed": 1,
            "errors": 1,
            "unmeasured": 0,
            "warnings": 0,
            "waived": 0,
        },
        "tool": {"name": "compressor", "version": "0.1.0"},
        "versions": {"python": "3.11.7"},
        "settings": {
            "config": None,
            "years": [2023],
            "rules": [],
            "convention": "strict",
            "input_shape": None,
            "allow_partial": False,
            "tolerance": 0.0,
            "rows": None,
            "limits": {},
            "levels": {},
            "accuracy": None,
            "base": None,
        },
        "targets": [{"path": name, "kind": "model"}],
        "files": [{"path": name, "role": "model", "sha256": "ab" * 32, "bytes": 101_000}],
        "findings": [finding],
        "checks": checks,
        "models": [],
    }
