# SPDX-License-Identifier: Apache-2.0
"""Every word that the button shows, in one place, so that an app can translate them.

`{...}` is filled in by the browser's side.
"""

from __future__ import annotations

from collections.abc import Callable


def texts(_: Callable[[str], str]) -> dict[str, str]:
    """The button's words by name, each through `_`."""
    return {
        "choose": _("Choose a wallet"),
        "chooseHint": _("It asks you before anything happens."),
        "cancel": _("Cancel"),
        "legacy": _("Wallet of this browser"),
        "unnamed": _("Wallet without a name"),
        "demoName": _("Demo person (local chain)"),
        "noWallet": _("No wallet found in this browser. Install one, then reload this page."),
        "preparing": _("One moment…"),
        "notNow": _("This cannot be done just now."),
        "changed": _("This has just changed. Read it again, then press once more."),
        "connecting": _("Waiting for your wallet to connect…"),
        "switching": _("Your wallet is on another chain. Allow the change in your wallet…"),
        "asking": _("Look at your wallet and confirm there…"),
        "delivering": _("Signed. Handing it over…"),
        "retrying": _("Signed, but the service cannot be reached. Trying again…"),
        "connected": _("Connected: {account}"),
        "signed": _("Signed."),
        "sent": _("Sent."),
        "delivered": _("Done."),
        "signedIn": _("Signed in."),
        "rejected": _("You said no in your wallet. Nothing happened."),
        "wrongAccount": _(
            "Your wallet uses {account}. This needs {wanted}. Choose that account in your "
            "wallet, then try again."
        ),
        "wrongChain": _("Your wallet is still on another chain. Nothing happened."),
        "busy": _("Your wallet already shows a request. Finish that one first, then try again."),
        "otherBusy": _("Another request is open. Finish that one first."),
        "disconnected": _("Your wallet is not connected any more."),
        "deliveryFailed": _("Signed, but not taken: {detail}"),
        "unreachable": _("Signed, but the service cannot be reached. Your signature is kept."),
        "failed": _("Your wallet could not do it: {detail}"),
        "nothingSaid": _("it gave no reason"),
        "again": _("Try again"),
        "sendAgain": _("Hand it over again"),
        "drop": _("Forget it"),
        "stop": _("Stop waiting"),
        "stopped": _("No longer waiting. If your wallet still shows the request, reject it."),
        "help": _("The wallet did not open?"),
        "helpBar": _("Click the wallet's icon in your browser's toolbar; it may show a number."),
        "helpUnlock": _("If it is locked, unlock it; the request is waiting behind."),
        "helpWindow": _("Look for a small window behind this one."),
        "helpPhone": _("On a phone, or with a device wallet, open its app or press its button."),
        "lost": _(
            "The page was reloaded while your wallet was open. If your wallet still shows the "
            "request, reject it; then try again."
        ),
        "lostSend": _(
            "The page was reloaded while your wallet was open. Finish the request in your "
            "wallet: this page will notice. If your wallet shows none, try again."
        ),
        "looking": _("Looking whether it was sent…"),
        "demoTitle": _("{name} is asked to sign"),
        "demoNote": _("Demonstration on a local chain. No real money, no real person."),
        "demoConfirm": _("Sign"),
        "demoSend": _("Send"),
        "demoReject": _("Reject"),
        "demoDetails": _("Everything that is signed"),
        "demoWho": _("Which demonstration person are you?"),
        "demoPerson": _("Person"),
        "demoConnect": _("Continue"),
    }
