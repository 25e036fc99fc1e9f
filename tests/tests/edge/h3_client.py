"""HTTP/3 by aioquic: asks for paths one after the other and prints a line for each: status, length, content in hex.

Arguments: address, host, CA file, then paths; a path may be "POST:/path", which sends four bytes.
"""

import asyncio
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.waiting = {}

    def quic_event_received(self, event):
        for part in self.http.handle_event(event):
            answer = self.waiting.get(getattr(part, "stream_id", None))
            if answer is None:
                continue
            if isinstance(part, HeadersReceived):
                answer["status"] = dict(part.headers).get(b":status", b"").decode()
            elif isinstance(part, DataReceived):
                answer["body"] += part.data
            if part.stream_ended:
                answer["done"].set_result(None)

    async def ask(self, host, path):
        method, path = path.split(":", 1) if ":" in path else ("GET", path)
        stream = self._quic.get_next_available_stream_id()
        answer = {"status": "", "body": b"", "done": asyncio.get_running_loop().create_future()}
        self.waiting[stream] = answer
        headers = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path)]
        self.http.send_headers(stream, [(a.encode(), b.encode()) for a, b in headers], end_stream=method == "GET")
        if method != "GET":
            self.http.send_data(stream, b"four", end_stream=True)
        self.transmit()
        await asyncio.wait_for(answer["done"], 10)
        return answer


async def main(address, host, ca, paths):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=host)
    configuration.load_verify_locations(ca)
    configuration.verify_mode = ssl.CERT_REQUIRED
    async with connect(address, 443, configuration=configuration, create_protocol=Client) as client:
        for path in paths:
            answer = await client.ask(host, path)
            print(answer["status"], len(answer["body"]), answer["body"].hex())


asyncio.run(asyncio.wait_for(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]), 30))
