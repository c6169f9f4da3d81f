"""Find a device by its name."""

import torch

from ads_gym.errors import DeviceUnavailable, InvalidValue, shown


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device of a name: "cpu", "cuda", "cuda:1", or "auto" (CUDA where there is one, else the CPU).

    Raises:
        InvalidValue: no such kind of device.
        DeviceUnavailable: this machine has no such device.
    """
    if not isinstance(name, str | torch.device):
        raise InvalidValue(f"a device is 'auto', 'cpu', 'cuda' or 'cuda:N', got {shown(name)}.")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError) as error:
        raise InvalidValue(f"a device is 'auto', 'cpu', 'cuda' or 'cuda:N', got {shown(name)}.") from error
    if device.type not in ("cpu", "cuda"):
        raise InvalidValue(f"a device is 'auto', 'cpu', 'cuda' or 'cuda:N', got {shown(name)}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(
            f"device {shown(str(name))} was asked for, and this machine has {torch.cuda.device_count()} CUDA devices: "
            "use --device cpu, or 'auto' for whatever there is."
        )
    return device
