#!/usr/bin/env python3
"""How long a step takes on N devices, by arithmetic: predicted, not measured.

A step of data parallelism computes for T / N and adds up G bytes of gradients over the ranks. The sum
moves 2 (n - 1) / n G bytes through each device's link, within a node by the fast link, between nodes by
the slow one; a part of it (--hidden) passes while the backward pass still computes.

  tools/predict_scaling.py --step-seconds 8 --passes 1024 --gradient-gb 0.11 --devices 8 64 1024

--step-seconds is the time of one step on one device, --passes how many equal passes it has (the
--grad-accum-steps of the trainers, of which each rank takes whole ones). Rates of links, in GB/s and
direction, are the published ones: NVLink 4 of an H100 450 (900 in both directions together), one
InfiniBand NDR port 50 (400 Gbit/s).
"""

import argparse
import json
import math


def step_seconds(devices, a):
    compute = a.step_seconds / a.passes * math.ceil(a.passes / devices)
    in_node = min(devices, a.node)
    nodes = math.ceil(devices / a.node)
    gradient = a.gradient_gb
    # Within the node first, then the node's sums between nodes: each device sends its share.
    inside = 2 * (in_node - 1) / in_node * gradient / a.link_gbs
    between = 2 * (nodes - 1) / nodes * gradient / in_node / a.net_gbs
    waits = 2 * (devices - 1) * a.latency_us * 1e-6 if devices > 1 else 0
    backward = compute * 2 / 3
    communication = inside + between + waits
    shown = communication - min(a.hidden * communication, backward)
    return compute, communication, compute + shown


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--step-seconds", type=float, required=True, help="of one device")
    p.add_argument("--passes", type=int, required=True, help="equal parts of a step")
    p.add_argument("--gradient-gb", type=float, required=True, help="4 bytes a trained parameter")
    p.add_argument("--devices", type=int, nargs="+", default=[1, 8, 64, 1024])
    p.add_argument("--node", type=int, default=8, help="devices of a node")
    p.add_argument("--link-gbs", type=float, default=450, help="GB/s between devices of a node")
    p.add_argument("--net-gbs", type=float, default=50, help="GB/s of a device between nodes")
    p.add_argument("--latency-us", type=float, default=5, help="of one message")
    p.add_argument("--hidden", type=float, default=0, help="share of the sums behind the backward pass")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    rows = []
    for devices in a.devices:
        if devices > a.passes:
            print(f"{devices} devices: more than the {a.passes} passes of a step")
            continue
        compute, communication, whole = step_seconds(devices, a)
        rows.append({"devices": devices, "compute_s": compute, "communication_s": communication,
                     "step_s": whole, "efficiency": a.step_seconds / devices / whole, "predicted": True})
    if a.json:
        print(json.dumps(rows))
        return
    print("predicted, by arithmetic")
    print(f"{'devices':>8} {'compute s':>10} {'sums s':>10} {'step s':>10} {'efficiency':>10}")
    for r in rows:
        print(f"{r['devices']:>8} {r['compute_s']:>10.4g} {r['communication_s']:>10.4g} "
              f"{r['step_s']:>10.4g} {100 * r['efficiency']:>9.1f}%")


if __name__ == "__main__":
    main()
