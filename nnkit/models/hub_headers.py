"""The headers of safetensors on the hub, read by range requests, whatever their size. Torch-free."""

from concurrent.futures import ThreadPoolExecutor

from nnkit.models import metadata
from nnkit.models.hub import TIMEOUT, fetch, find_cached, shards_of, url_of
from nnkit.models.hub_errors import explained
from nnkit.models.hub_names import HubName
from nnkit.models.safetensors_header import LENGTH_BYTES, Header, header_length, parse_header, read_header

BEGINNING = 2**17  # bytes; the headers of most files are shorter
CONNECTIONS = 8


def read_headers(name: HubName) -> list[Header]:
    """Return the header of a safetensors file, or of each shard that an index names.

    None of their values is downloaded, whatever their size.
    """
    if not name.file.endswith(metadata.INDEX):
        return [_read_header(name)]
    index = fetch(name)
    shards = shards_of(name, index)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        headers = list(pool.map(_read_header, shards))
    shard_of, _ = metadata.parse_index(index)
    metadata.check_found(index, shard_of, {entry.name for header in headers for entry in header.entries})
    return headers


def _read_header(name: HubName) -> Header:
    if path := find_cached(name):
        return read_header(path)
    with explained(name):
        beginning, size = _read_range(name, 0, BEGINNING)
        length = header_length(beginning[:LENGTH_BYTES], size, name.text)
        text = beginning[LENGTH_BYTES : LENGTH_BYTES + length]
        if len(text) < length:
            text += _read_range(name, LENGTH_BYTES + len(text), LENGTH_BYTES + length)[0]
        return parse_header(text, size, name.text)


def _read_range(name: HubName, begin: int, end: int) -> tuple[bytes, int]:
    """Return the bytes of a file from `begin` to before `end`, and the bytes of the whole file.

    A server may ignore the range and send the whole file; then the rest of it is not read.
    """
    from huggingface_hub import get_session
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils._http import hf_raise_for_status

    headers = {**build_hf_headers(), "Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
    with get_session().stream("GET", url_of(name), headers=headers, timeout=TIMEOUT) as response:
        if response.is_error:
            response.read()
        hf_raise_for_status(response)
        is_part = response.status_code == 206
        total = response.headers.get("Content-Range", "").rpartition("/")[2] if is_part else ""
        size = int(total if total.isdecimal() else response.headers.get("Content-Length", 0))
        skipped = 0 if is_part else begin
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) >= skipped + end - begin:
                break
    return bytes(content[skipped : skipped + end - begin]), size
