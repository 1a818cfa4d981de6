"""The presets of the case *lsq-against-pruning*: networks, lengths, sizes, and a learning rate for each."""

WATCH = (0.1, 0.4, 0.75, 1.0)
COMMON = {"shift": 2, "flip": True, "decay": 1e-4, "amp": False, "checkpoints": 200, "inputs": 250}


def rates(lsq: tuple, pruning: tuple, tuned: float, dense: float) -> dict:
    """Learning rates of a network: by method, and by bits 2, 3, 4 and 8."""
    of = {"lsq": dict(zip("2348", lsq)), "pruning": dict(zip("2348", pruning)), "tuned": {"16": tuned}}
    return {"rate": dense, "fine_rate": of}


# Every method has its own rate for every network and size: the best of a grid on seed 100, which no record uses
# (`prunequant record lsq-rates`, book/results/lsq_rates.json).
VIT_RATES = rates((1e-3,) * 4, (1e-2, 1e-3, 1e-3, 1e-3), 1e-3, 2e-3)
RESNET_RATES = rates((1e-3, 3e-3, 1e-3, 1e-3), (3e-2, 3e-2, 1e-2, 3e-3), 1e-3, 2e-3)
ALL = {"lsq": [2, 3, 4, 8], "free": [2, 3, 4, 8], "entropy": [2, 3, 4, 8]}
BITMAP = {"bitmap": [2, 3, 4, 8]}
LONG = {"tuned": True, "lsq": [2, 3], "free": [2, 3]}
REFERENCES = ["dense", "twin", "fresh"]
VIT = {"kind": "vit", "patch": 7, "width": 48, "depth": 3, "heads": 3}
# Networks trained out, each seed on images of its own, rates by seed 5, whose images no record has
# (`prunequant record lsq-rates-converged-vit`, ...). Each network has a preset, for it takes most of the time.
CONVERGED = {
    **COMMON,
    **{"seeds": 5, "task": "fashion-part", "shift": 1, "flip": False, "batch": 64},
    **{"reestimate": 50, "watch": WATCH},
}
OUT = {
    "dense_steps": 3000,
    "steps": 600,
    "references": ["dense"],
    "lengths": [
        [1, {"tuned": True, "lsq": [2, 3, 4, 8], "free": [2, 3, 4, 8], "entropy": [2, 3, 4],
             "both": {"3": [0.5], "4": [0.25, 0.5, 0.65], "8": [0.5]}}],
        [3, {"tuned": True, "lsq": [2, 3, 4], "free": [2, 3, 4]}],
    ],
}  # fmt: skip
PRESETS: dict[str, dict] = {
    "ci": {
        **COMMON,
        **{"seeds": 3, "task": "digits", "shift": 1, "flip": False, "batch": 64, "reestimate": 10, "watch": [1.0]},
        "models": {
            "resnet": {
                **RESNET_RATES,
                **{"network": {"kind": "resnet", "width": 8}, "dense_steps": 120, "steps": 50},
                **{"references": ["dense"], "lengths": [[1, {"lsq": [2], "free": [2], "entropy": [2]}]]},
            }
        },
    },
    "cpu": {
        **COMMON,
        **{"seeds": 5, "task": "fashion-small", "shift": 1, "flip": False, "batch": 64},
        **{"reestimate": 20, "watch": WATCH},
        "models": {
            "vit": {
                **VIT_RATES,
                **{"network": VIT, "dense_steps": 500, "steps": 150},
                **{"references": REFERENCES, "lengths": [[1, {"tuned": True, **ALL, **BITMAP}], [3, LONG]]},
            },
            "resnet": {
                **RESNET_RATES,
                **{"network": {"kind": "resnet", "width": 8, "stride": 2}, "dense_steps": 400, "steps": 120},
                **{"references": REFERENCES, "lengths": [[1, {"tuned": True, **ALL, **BITMAP}], [3, LONG]]},
            },
        },
    },
    "converged_vit": {
        **CONVERGED,
        "models": {
            "vit": {
                **rates((3e-4,) * 4, (3e-3, 3e-3, 3e-3, 1e-3), 3e-4, 1e-3),
                "long_rate": rates((1e-3, 3e-3, 3e-3, 3e-3), (3e-3,) * 4, 1e-3, 1e-3)["fine_rate"],
                **{"step_rate": 0.1, "ramp": 0.75, "network": VIT},
                **OUT,
            }
        },
    },
    "converged_resnet": {
        **CONVERGED,
        "models": {
            "resnet": {
                **rates((3e-3, 3e-3, 3e-4, 3e-4), (3e-2, 3e-2, 1e-2, 1e-2), 1e-3, 1.2e-2),
                "long_rate": rates((3e-3, 1e-3, 3e-4, 3e-4), (3e-2,) * 4, 1e-4, 1.2e-2)["fine_rate"],
                **{"step_rate": 0.1, "ramp": 0.5, "network": {"kind": "resnet", "width": 8, "stride": 2}},
                **OUT,
            }
        },
    },
    # A network of the paper's own family, from its ImageNet weights, for minutes of a GPU; rates are the best of
    # lsq_rates_efficientnet.json.
    "gpu": {
        **CONVERGED,
        **{"amp": True, "checkpoints": 0, "inputs": 200},
        "models": {
            "efficientnet": {
                **rates((6e-3, 6e-3, 2e-3, 2e-3), (6e-3,) * 4, 2e-3, 5e-4),
                **{"head_rate": 3e-3, "references": ["dense"]},
                **{"network": {"kind": "efficientnet", "size": 64}, "dense_steps": 600, "steps": 400},
                "lengths": [[1, {"tuned": True, "lsq": [2, 3, 4], "free": [2, 3, 4]}]],
            },
        },
    },
}
