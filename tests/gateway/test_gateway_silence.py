"""What waits for money, or to be booked, is not forgotten while nothing else happens."""

from __future__ import annotations

import threading

import httpx
from test_gateway_process import Played, home, until, url_of

from producer.gateway import bill
from producer.wire.messages import Booked, GatewayHello, Metered, Reserve


def test_a_request_that_waited_for_money_was_forgotten_after_two_quiet_seconds(tmp_path):
    """The supervisor forgets what waits when the gateway says hello; the gateway has to ask again."""
    with home(tmp_path) as h:
        supervisor = Played(h.places, [h.attempt], answers=False)
        url = url_of(h.gateway())
        answers: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: answers.append(h.ask(url)))
        waiting.start()
        until(lambda: supervisor.of(Reserve))
        hellos = len(supervisor.of(GatewayHello))
        supervisor.answers = True  # there is money now, but the first question was forgotten
        until(lambda: len(supervisor.of(GatewayHello)) > hellos)
        waiting.join(30)
        assert answers and answers[0].status_code == 200
        assert len({message.request for message in supervisor.of(Reserve)}) == 1
        supervisor.stop()


def test_a_bill_whose_acknowledgement_was_lost_was_not_said_again(tmp_path):
    with home(tmp_path) as h:
        supervisor = Played(h.places, [h.attempt], books=False)
        url = url_of(h.gateway())
        assert h.ask(url).status_code == 200
        until(lambda: supervisor.of(Metered))
        supervisor.books = True
        until(lambda: len(supervisor.of(Metered)) > 1)
        assert {message.cost for message in supervisor.of(Metered)} == {bill.total(h.bill)}
        assert h.journal().exists()
        supervisor.outbox.append(Booked(request=supervisor.of(Metered)[0].request))
        supervisor.stop()
