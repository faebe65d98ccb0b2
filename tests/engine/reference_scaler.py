"""Adaptive allocations as the description of Elasticsearch has them, written down line by line.

It shares nothing with `inferry.engine.controller`, which is compared with it.
"""

from __future__ import annotations


def reference_run(ticks, *, minimum, maximum, allocations=1):  # noqa: C901, PLR0912, PLR0915
    """Give the number of allocations after each tick of ten seconds.

    ticks: per tick a function of the number of allocations that gives successes, pending, failures
    (what changed since the last tick) and the mean seconds of an inference, None without one.
    """
    dt = 10.0
    rate_x: float | None = None
    time_x: float | None = None
    rate_p = time_p = 0.0
    rate_changed_before = time_changed_before = False
    number_changed = False
    idle = 0.0
    since_up = 1e9
    chosen = []
    for tick in ticks:
        successes, pending, failures, seconds = tick(allocations)
        requests = max(0, successes) + max(0, pending) + max(0, failures)
        since_up += dt
        idle = 0.0 if requests > 0 else idle + dt

        # 1-d Kalman filter of the rate; it notices by itself that the dynamics changed
        r = requests / dt
        r_hat = r if rate_x is None else rate_x
        var = max(1.0, r_hat * dt) / (dt * dt)
        if rate_x is None:
            rate_x, rate_p = r, var
            rate_changed_before = True
        else:
            changed = (r - rate_x) ** 2 / (var + rate_p) > 100
            q = r * r if changed or rate_changed_before else var / 100
            k = (rate_p + q) / (rate_p + q + var)
            rate_x = rate_x + k * (r - rate_x)
            rate_p = (1 - k) * (rate_p + q)
            rate_changed_before = changed

        # and of the time; it is told when the number of allocations changed
        if requests > 0 and seconds is not None:
            t = seconds
            t_hat = t if time_x is None else time_x
            var = t_hat * t_hat / requests
            if time_x is None:
                time_x, time_p = t, var
                time_changed_before = True
            else:
                q = t * t if number_changed or time_changed_before else var / 100
                k = (time_p + q) / (time_p + q + var)
                time_x = time_x + k * (t - time_x)
                time_p = (1 - k) * (time_p + q)
                time_changed_before = number_changed

        rate_low, rate_high = rate_x - rate_p**0.5, rate_x + rate_p**0.5
        if time_x is None:
            time_low = time_high = 1.0
        else:
            time_low, time_high = time_x - time_p**0.5, time_x + time_p**0.5
        load_low = max(0.0, rate_low) * max(0.0, time_low)
        load_high = rate_high * time_high

        n = allocations
        while (n == 0 and load_low > 0) or (n > 0 and load_low / n > 0.9):
            n += 1
        while n > 1 and load_high / (n - 1) < 0.85:
            n -= 1
        if maximum is None:
            n = min(n, 32)
        if minimum is not None:
            n = max(n, minimum)
        if maximum is not None:
            n = min(n, maximum)
        if minimum in (None, 0) and idle > 15 * 60:
            n = 0
        if n < allocations and since_up < 5 * 60:
            n = allocations
        if n > allocations:
            since_up = 0.0
        number_changed = n != allocations
        allocations = n
        chosen.append(n)
    return chosen
