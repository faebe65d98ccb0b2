"""Rows of the checklist that need something which is not here yet; they must fail until it is."""

import pytest

LOCAL_MODELS = pytest.mark.xfail(strict=True, reason="waits for: local models")
MULTIMODAL = pytest.mark.xfail(strict=True, reason="waits for: services that embed images")
