/* Processes that share one bucket: take, take as a batch, give back, wait, lose requests and answers, and forget; time passes and
 * the item expires. Everything is nondeterministic but the rules (plan.pml). ADR-163 says what is modelled and what is not.
 *
 * A process that crashes is one that makes no more steps, which every state allows for, since only safety is checked.
 *
 * The observer is what the invariants are stated by. It sees every write that changes the table, in order, and takes nothing from
 * the item's numbers. `debt` is the greatest, over all takings so far, of the time of that taking plus what was taken from it on
 * less what was given back from it on; so `debt <= at + WINDOW` after a taking at `at` says: in every span that ends here, what was
 * admitted less what was given back is at most the capacity and what refills in the span. Who waits counts when it starts (`due`).
 */

#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef CALLS
#define CALLS 2    /* of each process */
#endif
#ifndef LAST
#define LAST 4     /* the last moment; the first is 1 */
#endif
#ifndef PATIENCE
#define PATIENCE 0 /* of those who wait; at most 3 */
#endif
#ifndef LATE
#define LATE 0     /* by how much a clock may be behind, or a request be under way */
#endif
#ifndef LOSSES
#define LOSSES 0   /* requests and answers that are lost, of each call */
#endif

#include "plan.pml"

byte now = 1;
/* What one process knows and asks, and what its caller holds. */
typedef Process {
	Request ask;
	bool fresh, unsure;
	byte calls, lost;
	byte sent;         /* which takings the update carried whose answer was lost */
	byte mixed;        /* 1: other updates were sent under the stamp than that; 2: so it was under an earlier stamp */
	byte planned;      /* the oldest period that an update under the stamp was planned for */
	byte cost, since, start, level, earlier;
	/* The observer's: the period of what is held, and what became of the present call. */
	byte period, taken_in, taken, given
};
Process p[CLIENTS];

#ifdef DELAYED
/* One request that its sender takes for lost, and that is still on its way. */
Request stray;
byte stray_of;
#define NOTHING_STRAYS (stray.stamp == 0)
#else
#define NOTHING_STRAYS true
#endif

bool sends, answered, covered;    /* these only within a step */
byte kept;

byte debt, due[3];
byte period;
byte last_call;    /* the one whose update was applied last, since the item was created */
hidden int seen, whole, effective, valid;

/* The update of each call has a stamp of its own, and a new one once the old one says nothing. */
#define CALL(me) (me * CALLS + p[me].calls)
#define CALL_OF(r) (r.stamp % 64)
#define CARRIED ((after1 > 0 -> 1 : 0) + (after2 > 0 -> 2 : 0))

#define COPY(to, from) \
	to.tat = from.tat; to.since = from.since; to.booked = from.booked; to.floor = from.floor; to.ttl = from.ttl; \
	to.at = from.at; to.stamp = from.stamp; \
	to.cost1 = from.cost1; to.patience1 = from.patience1; to.cost2 = from.cost2; to.patience2 = from.patience2; \
	to.back = from.back; to.bsince = from.bsince; to.bstart = from.bstart; to.blevel = from.blevel; \
	to.bearlier = from.bearlier; to.bperiod = from.bperiod
#define DROP_REFUND(r) r.back = 0; r.bsince = 0; r.bstart = 0; r.blevel = 0; r.bearlier = 0; r.bperiod = 0
#define CLEAR(r) \
	r.at = 0; r.stamp = 0; r.cost1 = 0; r.patience1 = 0; r.cost2 = 0; r.patience2 = 0; DROP_REFUND(r)

inline observe_taking(moment, units, begin, wait) {
	assert(begin <= moment + wait);         /* no caller waits for longer than agreed */
	if
	:: begin <= moment ->
		debt = MAX(debt, moment) + units;
		assert(debt <= moment + WINDOW)         /* never more than the limit */
	:: else -> due[begin - moment - 1] = due[begin - moment - 1] + units
	fi
}

inline observe_start(begin, units) {
	if
	:: units > 0 ->
		seen = MAX(seen, begin) + units;
		assert(seen <= begin + WINDOW)      /* never more than the limit, when those who wait start */
	:: else
	fi
}

inline observe_waiting() {
	seen = debt;
	observe_start(now + 1, due[0]);
	observe_start(now + 2, due[1]);
	observe_start(now + 3, due[2])
}

/* Apply what is planned of `q`, a request of the process `who`. */
inline apply(who) {
	assert(last_call != CALL_OF(q) || p[who].mixed > 0);    /* an update is not applied twice in a row */
	last_call = CALL_OF(q);
	whole = (total > 0 -> MAX(item.tat, q.at) : item.tat) + total;
	change();
	receive();
	printf("%d: call %d takes %d and refunds %d: tat=%d since=%d booked=%d floor=%d ttl=%d\n", now, q.stamp, total, refunded,
		item.tat, item.since, item.booked, item.floor, item.ttl);
	assert(item.ttl >= item.tat);           /* no item expires before its bucket is full */
	effective = MAX(whole, q.at) - MAX(item.tat, q.at);
	valid = (q.bperiod == period -> q.back : 0);
	assert(effective <= valid);             /* nothing is given back that was not taken, or before the bucket was full */
	if
	:: total > 0 && debt <= q.at && due[0] + due[1] + due[2] == 0 -> period++
	:: else
	fi;
	if :: after1 > 0 -> observe_taking(q.at, q.cost1, start1, q.patience1) :: else fi;
	if :: after2 > 0 -> observe_taking(q.at, q.cost2, start2, q.patience2) :: else fi;
	valid = MIN(refunded, valid);
	if
	:: valid > 0 && q.bstart > now ->
		assert(due[q.bstart - now - 1] >= valid);
		due[q.bstart - now - 1] = due[q.bstart - now - 1] - valid
	:: else -> debt = MAX(0, debt - valid)
	fi;
	observe_waiting();
	if
	:: CALL_OF(q) == CALL(who) ->
		if :: total > 0 -> p[who].taken_in = period; p[who].taken = total :: else fi;
		if :: refunded > 0 -> p[who].given++ :: else fi;
		assert(p[who].given <= 1)            /* a refund is given at most once */
	:: else
	fi
}

inline look() {
	p[me].ask.tat = item.tat; p[me].ask.since = item.since; p[me].ask.booked = item.booked;
	p[me].ask.floor = item.floor; p[me].ask.ttl = item.ttl; p[me].ask.at = 0;
	p[me].fresh = true
}

inline finish() {
	CLEAR(p[me].ask);
	p[me].fresh = false; p[me].unsure = false; p[me].lost = 0; p[me].sent = 0; p[me].mixed = 0; p[me].planned = 0;
	p[me].taken_in = 0; p[me].taken = 0; p[me].given = 0
}

inline hold(units, begin, reached, previous) {
	p[me].cost = units;
	/* The period of the item may have begun since, and would pay out of what others took. */
#ifdef BUG_COVERED_SINCE
	p[me].since = item.since;
#else
	p[me].since = (covered -> p[me].planned : item.since);
#endif
	p[me].period = p[me].taken_in;
#if PATIENCE > 0
	p[me].start = begin; p[me].level = reached; p[me].earlier = previous
#endif
}

inline plan_call() { COPY(q, p[me].ask); plan() }

/* The update is known to have been applied, as planned: tell the callers. One of them may give back later. */
inline grant() {
	if
	:: kept = 1
	:: p[me].ask.cost2 > 0 -> kept = 2
	fi;
	d_step {
		plan_call();
		assert(total <= p[me].taken);       /* no caller is told that was not written */
		if :: covered -> receive_covered() :: else -> receive() fi;
		seen = (after1 > 0 -> MAX(q.booked, start1) : q.booked);
		if
		:: p[me].cost == 0 && after1 > 0 && (kept == 1 || after2 == 0) -> hold(q.cost1, start1, level1, q.booked)
		:: p[me].cost == 0 && after2 > 0 && (kept == 2 || after1 == 0) -> hold(q.cost2, start2, level2, seen)
		:: else
		fi;
		kept = 0;
		covered = false;
		look();
		finish()
	}
}

/* Whether the item says that an update under the call's stamp was applied. */
#define BEARS(stamp_of) (item.w == stamp_of || item.w2 == stamp_of)

/* The item bears the call's stamp. When updates with other takings were sent under it too, it does not say which was applied. */
inline recognise() {
	if
#ifndef BUG_RESENT_DIFFERENTLY
	:: p[me].mixed == 1 && !answered -> d_step {
			covered = false;
			look();
			p[me].ask.stamp = p[me].ask.stamp + 64; p[me].mixed = 2; p[me].sent = 0; p[me].planned = 0;
			DROP_REFUND(p[me].ask)
		}
	:: p[me].mixed != 1 || answered -> answered = false; grant()
#else
	:: answered = false; grant()
#endif
	fi
}

inline lose() {
	p[me].lost < LOSSES;
	p[me].lost++;
	p[me].unsure = true
}

/* Plan the call against the last state seen, and send what comes of it. */
inline attempt() {
	if
	:: p[me].ask.at = now
#if LATE > 0
	:: now > LATE -> p[me].ask.at = now - LATE
#endif
	fi;
	d_step { plan_call(); sends = writes };
	if
	:: !sends && p[me].fresh -> d_step { finish() }
	:: !sends && !p[me].fresh -> d_step { look() }
#ifdef BUG_ADMITS_FROM_MEMORY
	:: sends && p[me].ask.ttl > 0 && p[me].ask.back == 0 -> d_step {
			sends = false;
			plan_call();
			if :: after1 > 0 && promised == 0 -> observe_taking(q.at, q.cost1, q.at, 0) :: else fi;
			finish()
		}
#endif
	:: sends ->
		d_step {
			sends = false;
			plan_call();
			if :: p[me].sent > 0 && p[me].sent != CARRIED + 4 -> p[me].mixed = 1 :: else fi;
#ifdef BUG_COVERED_LAST_PLAN
			p[me].planned = (idle -> q.at : q.since)
#else
			if
			:: total > 0 ->
				seen = (idle -> q.at : q.since);
				p[me].planned = (p[me].planned == 0 -> seen : MIN(p[me].planned, seen))
			:: else
			fi
#endif
		};
		if
		:: d_step {
				plan_call();
				check();
				if :: holds -> apply(me); answered = true :: else fi
			};
			if
			:: BEARS(p[me].ask.stamp) -> covered = item.w != p[me].ask.stamp; recognise()
			:: !BEARS(p[me].ask.stamp) -> d_step {
					look();
					/* Only an update that was lost may have been applied. */
					if :: p[me].sent == 0 -> p[me].planned = 0 :: else fi
				}
			:: p[me].lost < LOSSES -> answered = false; lose()    /* the answer */
			fi
		:: lose()                           /* the request */
#ifdef DELAYED
		:: NOTHING_STRAYS && p[me].lost < LOSSES -> lose(); d_step { stray_of = me; COPY(stray, p[me].ask) }
#endif
		fi
	fi
}

inline take(units, wait) { p[me].ask.cost1 = units; p[me].ask.patience1 = wait }
inline take_also(units, wait) { p[me].ask.cost2 = units; p[me].ask.patience2 = wait }

inline give_back(part) {
	p[me].ask.back = part; p[me].ask.bsince = p[me].since; p[me].ask.bperiod = p[me].period;
	if
	:: p[me].start > now ->
		p[me].ask.bstart = p[me].start; p[me].ask.blevel = p[me].level; p[me].ask.bearlier = p[me].earlier
	:: else
	fi;
	p[me].cost = p[me].cost - part;
	if
	:: p[me].cost == 0 -> p[me].since = 0; p[me].start = 0; p[me].level = 0; p[me].earlier = 0; p[me].period = 0
	:: else
	fi
}

proctype Client(byte me) {
end:
	do
	:: atomic {
			p[me].ask.stamp == 0 && p[me].calls < CALLS ->
			p[me].calls++;
			p[me].ask.stamp = CALL(me);
			if
			:: take(1, 0)
#if WINDOW > 1                              /* what never fits is not asked for */
			:: take(2, 0)
#endif
			:: take(1, 0); take_also(1, 0)
#if PATIENCE > 0
			:: take(1, PATIENCE)
#if WINDOW > 1
			:: take(2, PATIENCE)
			:: take(2, PATIENCE); take_also(1, PATIENCE)
#endif
			:: take(1, 0); take_also(1, PATIENCE)
			:: take(1, PATIENCE); take_also(1, PATIENCE)
#endif
#ifndef NO_REFUNDS
			:: p[me].cost > 0 -> d_step { give_back(p[me].cost) }
			:: p[me].cost > 1 && p[me].start <= now -> d_step { give_back(1) }
			:: p[me].cost > 0 && p[me].start <= now -> take(1, 0); d_step { give_back(p[me].cost) }
#endif
			fi;
			attempt()
		}
	:: atomic { p[me].ask.stamp > 0 && !p[me].unsure -> attempt() }
	:: atomic {
			p[me].unsure ->                 /* read, and compare the stamp */
			p[me].unsure = false;
			if
#ifdef BUG_LOST_MEANS_APPLIED
			:: true ->
#else
			:: BEARS(p[me].ask.stamp) ->
#endif
				covered = item.w != p[me].ask.stamp;
				recognise()
			:: !BEARS(p[me].ask.stamp) -> d_step {
					plan_call();
					p[me].sent = CARRIED + 4;
					look();
#ifdef BUG_NEW_STAMP
					p[me].ask.stamp = p[me].ask.stamp + 64;
#endif
#ifndef BUG_REFUNDS_AGAIN
					DROP_REFUND(p[me].ask)
#endif
				}
			fi
		}
	:: d_step { p[me].unsure -> finish() } /* and give up */
	od
}

proctype Time() {
end:
	do
	:: d_step {
			now < LAST ->
			now++;
			if :: due[0] > 0 -> debt = MAX(debt, now) + due[0]; assert(debt <= now + WINDOW) :: else fi;
			due[0] = due[1]; due[1] = due[2]; due[2] = 0
		}
#ifdef EXPIRY
#ifdef BUG_EXPIRES_BUSY
	:: d_step { item.ttl > 0 && NOTHING_STRAYS && item.since < now ->
#else
	:: d_step { item.ttl > 0 && NOTHING_STRAYS && item.ttl <= now ->
#endif
			item.tat = 0; item.since = 0; item.booked = 0; item.floor = 0; item.ttl = 0; item.w = 0; item.w2 = 0;
			last_call = 0
		}
#endif
#ifdef DELAYED
	:: d_step { stray.stamp > 0 ->           /* it arrives, or it does not */
			COPY(q, stray);
			plan();
			check();
			if :: holds -> apply(stray_of) :: else fi;
			CLEAR(stray);
			stray.tat = 0; stray.since = 0; stray.booked = 0; stray.floor = 0; stray.ttl = 0; stray_of = 0
		}
#endif
	od
}

init {
	atomic {
		byte n = 0;
		do
		:: n < CLIENTS -> run Client(n); n++
		:: else -> break
		od;
		run Time()
	}
}
