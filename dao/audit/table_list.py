# SPDX-License-Identifier: Apache-2.0
"""The tables of a dossier as plain text: name, title, basis, key, then a line for each column.

Data for `tables`: `column | kind | unit | meaning`; a kind that ends in `?` may be empty. Slots
are quarter-hours since 1970 (unix seconds // 900), sessions are named by their first slot, prices
are µ€ per Wh, money is in µ€, times of a single moment are unix seconds.
"""

TABLE_LIST: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "figures",
        "Key figures, and those of the period before",
        "chain",
        "",
        """
        name     | text | -    | what is counted
        value    | int? | unit | of this period; empty where it cannot be told
        before   | int? | unit | the same of the period before, of the same length
        unit     | text | -    | unit of value and before; ppm is a millionth
        basis    | text | -    | metered, chain or operator: on whose word it rests
        """,
    ),
    (
        "slots",
        "Energy balance of the zone per slot",
        "metered",
        "slot",
        """
        slot        | int  | -  | quarter-hour
        start       | text | -  | when it begins, UTC
        homes       | int  | -  | metering points behind the total, the least of the batch
        import_wh   | int  | Wh | drawn by all homes, as the ledger has it
        export_wh   | int  | Wh | fed in by all homes, as the ledger has it
        net_wh      | int  | Wh | import less export
        traded_wh   | int? | Wh | delivered under the market's trades; empty while not settled
        own_use_wh  | int? | Wh | fed in and used in the zone in the same slot, beside the trades
        grid_in_wh  | int  | Wh | what the zone drew from the grid above it
        grid_out_wh | int  | Wh | what the zone gave to the grid above it
        residual_wh | int? | Wh | traded beyond what the zone used itself; negative, else 0
        """,
    ),
    (
        "prices",
        "Prices and books per slot",
        "chain",
        "slot",
        """
        slot      | int  | -     | quarter-hour
        start     | text | -     | when it begins, UTC
        session   | int  | -     | first slot of its session
        price     | int? | µ€/Wh | the clearing price; empty where nothing traded
        volume_wh | int  | Wh    | bought, equal to sold
        bids      | int  | -     | bids with energy in the slot
        asks      | int  | -     | asks with energy in the slot
        bid_wh    | int  | Wh    | asked for
        ask_wh    | int  | Wh    | offered
        fee       | int  | µ€/Wh | grid fee in force at the gate
        band_min  | int  | µ€/Wh | lowest price allowed
        band_max  | int  | µ€/Wh | highest price allowed
        """,
    ),
    (
        "settlement",
        "What was delivered and paid per slot",
        "chain",
        "slot",
        """
        slot           | int  | -     | quarter-hour
        start          | text | -     | when it begins, UTC
        session        | int  | -     | first slot of its session
        state          | text | -     | settled, void, or open
        price          | int? | µ€/Wh | the clearing price; empty where nothing traded
        cleared_wh     | int  | Wh    | agreed
        delivered_wh   | int? | Wh    | proved by the sellers' meters; empty while not settled
        turnover       | int? | µ€    | what the sellers got for it
        fees           | int? | µ€    | grid fees, to the treasury
        buyers_paid    | int? | µ€    | what the buyers paid, fees included
        penalties      | int? | µ€    | from sellers to buyers for what was not delivered
        """,
    ),
    (
        "sessions",
        "Sessions: books, and where their money went",
        "chain",
        "session",
        """
        session       | int  | -     | first slot
        start         | text | -     | when it begins, UTC
        slots         | int  | -     | length
        gate          | int  | s     | until when orders could be posted
        penalty       | int  | µ€/Wh | for energy sold and not delivered
        orders        | int  | -     | accepted
        rejected      | int  | -     | turned away by the contract
        book_hash     | text | -     | what the pages of the book fold into
        cleared_slots | int  | -     | slots with a price or without trade
        settled_slots | int  | -     | slots settled
        state         | text | -     | settled, void, partly void, or open
        escrow        | int  | µ€    | taken from the orders' accounts
        credited      | int? | µ€    | returned to them; empty while not settled
        fees          | int? | µ€    | to the treasury
        conserved     | bool? | -    | whether escrow is credited plus fees, to the last unit
        """,
    ),
    (
        "orders",
        "Orders in order of arrival, accounts as on chain",
        "chain",
        "session position",
        """
        session      | int  | -     | first slot of the session
        position     | int  | -     | place in the book, from 0
        account      | int  | -     | number of the account, a pseudonym
        side         | text | -     | bid or ask
        price_limit  | int  | µ€/Wh | the most a bid pays, fee included; the least an ask takes
        mandate      | int  | -     | number of an agent's mandate, 0 for the owner's own order
        first_slot   | int  | -     | of the order
        slots        | int  | -     | of the order
        wh           | int  | Wh    | over all its slots
        escrow       | int  | µ€    | taken when it was posted
        filled_wh    | int  | Wh    | by the clearing, recomputed
        delivered_wh | int? | Wh    | by the settlement; empty while not settled
        credit       | int? | µ€    | returned by the settlement
        block        | int  | -     | in which it was posted
        """,
    ),
    (
        "fills",
        "Fills per slot, recomputed",
        "chain",
        "slot position",
        """
        slot         | int  | -  | quarter-hour
        session      | int  | -  | first slot of the session
        position     | int  | -  | of the order in the book
        account      | int  | -  | number of the account, a pseudonym
        side         | text | -  | bid or ask
        filled_wh    | int  | Wh | by the clearing
        delivered_wh | int? | Wh | of a bid; of an ask only the session's sum is public
        paid         | int? | µ€ | by a bid, fee included
        """,
    ),
    (
        "clearing",
        "Quality of the clearing per slot, recomputed",
        "chain",
        "slot",
        """
        slot           | int  | -     | quarter-hour
        start          | text | -     | when it begins, UTC
        price          | int? | µ€/Wh | on chain; empty where nothing traded
        replayed_price | int? | µ€/Wh | computed again from the book
        volume_wh      | int  | Wh    | on chain
        welfare        | int  | µ€    | value of what is bought less cost of what is sold
        best_welfare   | int  | µ€    | an upper bound that no allocation exceeds (duality)
        efficiency_ppm | int? | ppm   | welfare over the bound
        unbalanced_wh  | int  | Wh    | bought less sold: 0
        irrational     | int  | -     | filled orders that lose by it: 0
        envious        | int  | -     | orders better than the price and not filled whole: 0
        """,
    ),
    (
        "batches",
        "Batches of readings on the ledger",
        "chain",
        "first_slot version",
        """
        first_slot   | int  | - | of the batch
        start        | text | - | when it begins, UTC
        slots        | int  | - | length
        version      | int  | - | 1, or 2 for its correction
        newest       | bool | - | whether it is the version that counts
        root         | text | - | Merkle root of the salted leaves
        homes        | int  | - | metering points behind any of its totals, the least
        leaves       | int  | - | of readings and of edit records
        committed_at | int  | s | when it came on chain
        block        | int  | - | in which
        tx           | text | - | by which transaction
        """,
    ),
    (
        "contents",
        "What the leaves of the batches are",
        "operator",
        "first_slot",
        """
        first_slot | int | - | of the batch
        slots      | int | - | length
        rows       | int | - | readings, missing ones included
        records    | int | - | edit records: substitutions and estimates
        erased     | int | - | rows whose values were erased
        """,
    ),
    (
        "quality",
        "Quality of the readings per slot",
        "operator",
        "slot",
        """
        slot        | int  | - | quarter-hour
        start       | text | - | when it begins, UTC
        meters      | int  | - | metering points with a row
        measured    | int? | - | as the device signed; empty below 15 metering points
        estimated   | int? | - | estimated
        substituted | int? | - | substituted
        missing     | int? | - | unknown, never counted as zero
        invalid     | int? | - | refused
        erased      | int? | - | erased since
        """,
    ),
    (
        "edits",
        "Substitutions and estimates per day and rule",
        "operator",
        "day rule version quality_before quality_after",
        """
        day            | text | - | UTC day
        rule           | text | - | of docs/vee.md
        version        | int  | - | of the rule
        quality_before | text | - | of the value
        quality_after  | text | - | of the value
        records        | int  | - | how many such steps; each is a leaf of its batch
        """,
    ),
    (
        "proposals",
        "Proposals and how they ended",
        "chain",
        "created_at id",
        """
        id          | text | - | the governor's number
        lane        | text | - | ordinary, balancing, or policy
        zone        | int  | - | whose matter it is, 0 for all
        proposer    | text | - | address
        title       | text | - | first line of the description
        description | text | - | as proposed
        calls       | text | - | JSON: target, selector and hash of each call
        created_at  | int  | s | when it was proposed
        snapshot    | int  | s | whose votes count
        deadline    | int  | s | end of the vote
        members     | int  | - | who could vote at the snapshot
        voters      | int  | - | ballots cast
        votes_for   | int  | - | votes
        votes_against | int | - | votes, those with veto included
        votes_abstain | int | - | votes
        votes_veto  | int  | - | of the votes against
        quorum      | int  | - | votes it needs; under a policy the objections that stop it
        turnout_ppm | int? | ppm | votes cast of the members'
        outcome     | text | - | executed, canceled, passed, defeated, or open
        executed_at | int? | s | when it was carried out
        block       | int  | - | of the proposal
        tx          | text | - | of the proposal
        executed_tx | text? | - | of the execution
        """,
    ),
    (
        "ballots",
        "Ballots as cast in the open",
        "chain",
        "proposal voter",
        """
        proposal | text  | - | the governor's number
        voter    | text  | - | address, a pseudonym
        support  | text  | - | for, against, abstain, or veto
        weight   | int   | - | votes, lent ones included
        reason   | text? | - | in words where they were sent
        reason_hash | text? | - | in a batch the hash of the words
        cast_at  | int   | s | when
        block    | int   | - | in which
        tx       | text  | - | by which transaction
        """,
    ),
    (
        "actions",
        "Balancing actions: forecast before, decision, measured after",
        "chain",
        "first_slot key",
        """
        first_slot    | int   | -  | of the window
        start         | text  | -  | when it begins, UTC
        slots         | int   | -  | length
        key           | int   | -  | of the rule or the kind of devices
        what          | text  | -  | the key in words
        value         | int   | -  | W, permille or µ€/Wh, as docs/governance.md has it
        proposal      | text? | -  | that decided it
        opened_at     | int   | s  | when it came into force
        forecast_low_wh  | int? | Wh | sum of the 10 % quantiles of net energy, without it
        forecast_wh   | int?  | Wh | sum of the medians
        forecast_high_wh | int? | Wh | sum of the 90 % quantiles
        ordered_wh    | int?  | Wh | what the community battery was told to take (or give)
        measured_wh   | int?  | Wh | net energy of the zone, metered, with the action
        without_wh    | int?  | Wh | metered less ordered: had the battery rested
        tx            | text  | -  | that opened it
        """,
    ),
    (
        "grid",
        "What the actions did to the grid",
        "operator",
        "day quantity",
        """
        day      | text | -    | UTC day
        quantity | text | -    | what is compared
        unit     | text | -    | ppm of rated, slots, or millionths per unit
        measured | int? | unit | by power flow of the metered day
        without  | int? | unit | the same day, had the battery rested
        forecast_before | int? | unit | as forecast, without the action
        forecast_after  | int? | unit | as forecast, with it
        """,
    ),
    (
        "forecasts",
        "Committed forecasts of the zone's net energy, and what was metered",
        "chain",
        "slot forecaster",
        """
        slot       | int  | -  | quarter-hour
        start      | text | -  | when it begins, UTC
        forecaster | text | -  | address
        q10        | int  | Wh | 10 % quantile
        q50        | int  | Wh | median
        q90        | int  | Wh | 90 % quantile
        net_wh     | int  | Wh | metered
        inside     | bool | -  | whether it lies within q10 to q90
        in_window  | bool | -  | whether an action was in force
        """,
    ),
    (
        "scores",
        "What the contract scored, day by day",
        "chain",
        "first_slot forecaster",
        """
        first_slot   | int  | -      | of the day
        day          | text | -      | UTC day
        forecaster   | text | -      | address
        commitment   | text? | -     | made before the deadline
        evidence     | text? | -     | hash of the evidence file
        state        | text | -      | scored, unscored, missed, revealed, or committed
        loss         | int? | ‰ Wh   | pinball loss
        naive_loss   | int? | ‰ Wh   | of the seasonal naive forecast
        slots_scored | int? | -      | how many slots counted
        slashed      | int  | µ€     | taken from the bond
        rewarded     | int  | µ€     | added to it
        """,
    ),
    (
        "payments",
        "Public spending",
        "chain",
        "number",
        """
        number    | int  | - | from 1 without a gap since the deployment
        proposal  | text | - | the vote that decided it
        purpose   | int  | - | number of the purpose
        name      | text | - | of the purpose's budget
        payee     | text | - | address
        amount    | int  | µ€ | paid
        kind      | text | - | single, voted milestone, metered milestone, or recurring
        source    | int  | - | number of the grant or recurring payment, 0 for a single one
        paid_at   | int  | s | when
        reference | text | - | what for
        votes_for | int? | - | of its proposal
        votes_against | int? | - | of its proposal
        block     | int  | - | in which
        tx        | text | - | by which transaction
        """,
    ),
    (
        "budgets",
        "Budgets in force in the period",
        "chain",
        "purpose edition",
        """
        purpose   | int  | -  | number
        edition   | int  | -  | of the budget
        name      | text | -  | of the purpose
        proposal  | text | -  | that set it
        amount    | int  | µ€ | in each of its periods
        period_seconds | int | s | how long one is
        starts_at | int  | s  | when it begins
        ends_at   | int  | s  | when it ends
        paid      | int  | µ€ | paid for the purpose in the dossier's period
        """,
    ),
    (
        "delegates",
        "Who votes for whom at the end of the period",
        "chain",
        "delegate",
        """
        delegate | text | - | address, a pseudonym
        votes    | int  | - | members who gave it their vote, itself included
        own      | bool | - | whether it is a member
        """,
    ),
    (
        "groups",
        "Who gains: groups of at least 15 homes, day by day",
        "operator",
        "day group",
        """
        day       | text | -  | UTC day
        group     | text | -  | with solar, or without
        homes     | int? | -  | in it; empty where a group is too small to show
        import_wh | int? | Wh | drawn
        export_wh | int? | Wh | fed in
        sold_wh   | int? | Wh | delivered to neighbours
        bought_wh | int? | Wh | delivered by neighbours
        taken_wh  | int? | Wh | of that, what the buyers' meters drew in the same slot
        received  | int? | µ€ | for energy sold, penalties paid taken off
        paid      | int? | µ€ | for energy bought, fees included, penalties received taken off
        gain      | int? | µ€ | received less the feed-in tariff of what was sold
        saving    | int? | µ€ | taken energy at retail less what was paid
        """,
    ),
    (
        "promises",
        "Orders that the relay promised to post",
        "operator",
        "session",
        """
        session  | int | - | first slot
        promised | int | - | orders it took
        posted   | int | - | of those, brought to the chain in time
        withdrawn | int | - | taken back by their owners
        not_posted | int | - | promises broken
        """,
    ),
    (
        "anomalies",
        "What went wrong, and how it was treated",
        "chain",
        "at kind subject",
        """
        at        | int   | s | when it was on chain, or came due
        kind      | text  | - | what it is
        subject   | text  | - | session, slot, batch, meter or forecaster
        detail    | text  | - | in words
        treatment | text  | - | what the rules did about it
        tx        | text? | - | where it stands on chain
        """,
    ),
    (
        "carbon",
        "How much of each hour's energy came from the zone itself",
        "chain",
        "first_slot",
        """
        first_slot | int  | -   | of the hour
        start      | text | -   | when it begins, UTC
        import_wh  | int  | Wh  | drawn by all homes
        export_wh  | int  | Wh  | fed in by all homes
        matched_wh | int  | Wh  | fed in and drawn within the hour
        matched_ppm | int? | ppm | of what was drawn
        """,
    ),
    (
        "gas",
        "What the chain's work cost",
        "chain",
        "purpose",
        """
        purpose      | text | -    | what the transactions did
        transactions | int  | -    | that left an event of this dossier
        gas          | int  | gas  | used
        fee_gwei     | int  | Gwei | paid for it, rounded down
        energy_wh    | int  | Wh   | the same gas on Ethereum's mainnet, see docs/audit.md
        """,
    ),
    (
        "money",
        "Money in and out of the zone's accounts in the period",
        "chain",
        "",
        """
        what   | text | -  | kind of movement
        amount | int  | µ€ | sum
        count  | int  | -  | how many
        """,
    ),
    (
        "before",
        "The period before, for comparison",
        "metered",
        "slot",
        """
        slot      | int  | -     | quarter-hour
        import_wh | int? | Wh    | drawn by all homes; empty where the ledger has nothing
        export_wh | int? | Wh    | fed in by all homes
        traded_wh | int? | Wh    | delivered under trades
        price     | int? | µ€/Wh | the clearing price
        fees      | int? | µ€    | grid fees
        penalties | int? | µ€    | for what was not delivered
        """,
    ),
    (
        "changes",
        "What this dossier corrects in the one that it names",
        "operator",
        "",
        """
        table  | text  | - | in which
        change | text  | - | added, removed, or changed
        row    | text  | - | the row's key
        column | text? | - | where it changed
        before | text? | - | what the corrected dossier says
        after  | text? | - | what this one says
        """,
    ),
)
