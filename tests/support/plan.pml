/* The rules of core/plan.py and core/state.py for one limit, in small numbers: how a batch meets a guessed state, and what its
 * update does.
 *
 * Time is counted in the refill of one unit, from 1; 0 stands for absent, as -1 does in the code. A request holds a batch of up to
 * two debits and one refund, with the state that it is planned against. Both the protocol's model (protocol.pml) and the
 * comparison with the code (rules.pml) are made of these very lines.
 */

#ifndef WINDOW
#define WINDOW 2
#endif
#ifndef GRACE
#define GRACE 1
#endif

#define ANY 255
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define MIN(a, b) ((a) < (b) -> (a) : (b))

typedef Request {
	byte tat, since, booked, floor, ttl;          /* the state that it is planned against */
	byte at;                                      /* the time at which it is planned */
	byte stamp;
	byte cost1, patience1, cost2, patience2;      /* the takings, in order; none where the cost is 0 */
	byte back, bsince, bstart, blevel, bearlier;  /* the refund; none where `back` is 0 */
	byte bperiod                                  /* what the observer knows of the refund; no rule looks at it */
};

typedef Item { byte tat, since, booked, floor, ttl, w, w2 };    /* the stamps of the last two writes; the code keeps three */

Item item;

/* The request that a step is about. Like everything below it is set and used in one step, and so no part of a state. */
hidden Request q;


hidden int base, total, after1, after2, promised, ceiling, start;
hidden int undone, plain, refunded, left_booked;
hidden int low, high, want_since, booked_low, booked_high, want_floor, reach;
hidden int idle, keeps, writes, refused1, refused2, holds;
hidden int start1, start2, level1, level2, before;

inline plan_taking(units, wait, reached, denied) {
	reached = 0;
	denied = false;
	if
	:: units > 0 ->
		start = base + total + units - WINDOW;
		if
		:: start <= q.at || (start <= q.at + wait && q.back == 0) ->
			total = total + units;
			reached = total;
			if :: start > q.at -> promised = total :: else fi
		:: start > q.at + wait -> denied = true
		:: else /* a booking would void the refunds of its batch */
		fi
	:: else
	fi
}

inline plan_ceiling(units, wait, reached) {
	if
	:: reached > 0 ->
#ifdef BUG_BATCH_NOT_SUMMED
		start = q.at + WINDOW - units;
#else
		start = q.at + WINDOW - reached;
#endif
#ifdef BUG_UNRECORDED_WAIT
		start = start + wait;
#else
		/* Behind the last booking no request may have to wait. */
		if :: reached <= promised -> start = start + wait :: else fi;
#endif
		ceiling = MIN(ceiling, start)
	:: else
	fi
}

inline plan_refund() {
	undone = 0;
	plain = 0;
	left_booked = q.booked;
	if
	:: q.back > 0 && q.bsince == q.since ->
		plain = q.back;
#ifdef BUG_UNDOES_ANY_BOOKING
		if
		:: q.bstart > q.at ->
#else
		if
		:: q.bstart > q.at && q.blevel == q.floor ->
#endif
			undone = q.back;
			plain = 0;
			if :: q.bstart == q.booked -> left_booked = MAX(q.bstart - q.back, q.bearlier) :: else fi
		:: else
		fi;
#ifndef BUG_REFUND_IGNORES_BOOKINGS
		if
		:: plain > 0 && left_booked > q.at ->
			plain = MIN(plain, MAX(0, base + total - q.floor));
			if :: plain > 0 -> low = MAX(low, q.floor + plain - total) :: else fi
		:: else
		fi
#endif
	:: else
	fi;
	refunded = undone + plain;
	if
	/* What holds a refund back is asserted as well by any other write. */
	:: refunded > 0 || (total > 0 && q.back > 0 && q.bsince == q.since) ->
#ifndef BUG_REFUND_WITHOUT_SINCE
		want_since = q.since;
#endif
#ifndef BUG_REFUND_UNCONDITIONAL
		if
		:: q.booked > q.at ->
			booked_low = q.booked;
			booked_high = q.booked;
			want_floor = q.floor
		:: else -> booked_high = q.at
		fi
#endif
	:: else
	fi
}

/* The update that a batch becomes: its conditions (`low` to `want_floor`) and what its changes are made of. */
inline plan() {
	base = MAX(q.tat, q.at);
	idle = q.tat <= q.at;
	total = 0; promised = 0; refunded = 0; undone = 0; left_booked = q.booked;
	low = 0; high = ANY; want_since = 0; booked_low = 0; booked_high = ANY; want_floor = ANY; reach = 0;
	plan_taking(q.cost1, q.patience1, after1, refused1);
	plan_taking(q.cost2, q.patience2, after2, refused2);
	keeps = false;
	if
	:: total > 0 ->
		ceiling = ANY;
		plan_ceiling(q.cost1, q.patience1, after1);
		plan_ceiling(q.cost2, q.patience2, after2);
		keeps = promised > 0 && base + total - WINDOW < q.booked;
		if
		:: idle ->
#ifndef BUG_IDLE_UNCONDITIONAL
			high = q.at;
#endif
			reach = q.at + total
		:: else ->
			if :: keeps -> ceiling = MIN(ceiling, base) :: else fi;
#ifndef BUG_BUSY_WHEN_FULL
			low = q.at + 1;
#endif
#ifndef BUG_NO_CEILING
			high = ceiling;
#endif
			if :: promised == 0 -> plan_refund() :: else fi;
#ifdef BUG_TTL_BY_GUESS
			reach = base + total
#else
			reach = ceiling + total
#endif
		fi;
		if :: keeps -> booked_low = base + total - WINDOW :: else fi
	:: else -> plan_refund()
	fi;
	writes = total > 0 || refunded > 0
}

/* Whether the planned update may be applied to the item. */
inline check() {
	holds = item.tat >= low && item.tat <= high;
	holds = holds && (want_since == 0 || item.since == want_since);
	holds = holds && item.booked >= booked_low && item.booked <= booked_high;
	holds = holds && (want_floor == ANY || (item.floor > 0 && item.floor == want_floor));
	holds = holds && (reach == 0 || (q.ttl >= reach -> item.ttl >= reach : item.ttl <= reach + GRACE));
#ifndef BUG_STAMP_UNCONDITIONAL
	holds = holds && item.w != q.stamp && item.w2 != q.stamp
#endif
}

/* The item after the update. Right-hand sides see the old item, so `tat` comes last. */
inline change() {
	if
	:: promised > 0 ->
		if
		:: !keeps -> item.booked = (idle -> q.at : item.tat) + total - WINDOW
		:: else
		fi;
		item.floor = (idle -> q.at : item.tat) + promised
	:: else
	fi;
	if :: undone > 0 -> item.floor = item.floor - undone :: else fi;
	if :: refunded > 0 && left_booked < q.booked -> item.booked = left_booked :: else fi;
	if
	:: total > 0 && idle ->
		item.tat = q.at + total;
#ifndef BUG_IDLE_KEEPS_SINCE
		item.since = q.at
#endif
	:: else -> item.tat = item.tat + total - refunded
	fi;
	if :: reach > 0 && q.ttl < reach -> item.ttl = reach + GRACE :: else fi;
	item.w2 = item.w;
	item.w = q.stamp
}

/* What each taking is told, once the update has left the item as it is. */
inline receive() {
	before = (idle && total > 0 -> q.at : MAX(q.at, item.tat - total + refunded));
	level1 = before + after1; start1 = level1 - WINDOW;
	level2 = before + after2; start2 = level2 - WINDOW
}

/* The same where others have written since: `tat` is theirs too, so the batch met at most what its ceiling allows. */
inline receive_covered() {
	before = (idle && total > 0 -> q.at : MAX(q.at, item.tat - total + refunded));
	if
	:: total > 0 && !idle -> before = MAX(q.at, MIN(before, ceiling))
	:: else
	fi;
	level1 = before + after1; start1 = level1 - WINDOW;
	level2 = before + after2; start2 = level2 - WINDOW
}
