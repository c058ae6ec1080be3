/* Processes that hold slots of one bucket, which the library's rules for slots let them take, free, hand on, renew and lose.
 *
 * Each process plans on the present item, and its request arrives later, or never, or after its sender has given up on it (then
 * it is late). Answers are lost, clocks are off by up to ERROR, and time passes. A process that is killed or stopped is one that
 * makes no more steps, or none for a while. ADR-176 has the rules; core/limits/slots.py and core/slot_ledger.py are the code.
 *
 * The observer counts who works in the belief that it holds a slot: its lease is open, and its own deadline lies ahead.
 */

#ifndef PROCESSES
#define PROCESSES 2
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef TTL
#define TTL 2
#endif
#ifndef ERROR
#define ERROR 1    /* by which a clock may be off; it is stated rightly */
#endif
#ifndef LAST
#define LAST 7     /* the last moment; the first is 2 */
#endif
#ifndef WRITES
#define WRITES 3   /* of each process */
#endif
#ifndef LOSSES
#define LOSSES 1   /* answers that are not waited for */
#endif

/* An entry: until when, and how many; no slots means that it is absent. */
typedef Entry { byte until, count };

/* A write: the own entry as it was seen and as it will be, what it takes, gives up, and whom it takes out. */
typedef Request { bool sent; Entry seen, new, dead; byte taken, freed; byte planned };

typedef Process {
	byte off, error;       /* its clock tells now + off - ERROR */
	Entry known, shown;    /* as last known, and as an answer under way shows it */
	byte leases, keeps, deadline, last, writes;
	bool waits, answered, applied, doubt;
	Request ask, late
};

byte now = 2;
byte held, lost;
Entry entry[PROCESSES];
Process p[PROCESSES];

#define SAME(a, b) (a.count == b.count && (a.count == 0 || a.until == b.until))
#define TOLD(i) (now + p[i].off - ERROR)
#ifdef BUG_HAND_ON_WHAT_IS_GIVEN_UP
#define SPARE(i) (p[i].known.count > p[i].leases)
#else
#define SPARE(i) (p[i].known.count > p[i].leases && !p[i].doubt && (!p[i].waits || p[i].keeps > p[i].leases))
#endif
#ifdef BUG_HAND_ON_AFTER_THE_DEADLINE
#define IN_TIME(i) true
#else
#define IN_TIME(i) (now < p[i].deadline)
#endif

inline judge() {
	d_step {
		sum = 0; at_work = 0;
		for (j : 0 .. PROCESSES - 1) {
			sum = sum + entry[j].count;
			at_work = at_work + (now < p[j].deadline -> p[j].leases : 0)
		}
		assert(held == sum);
		assert(at_work <= SLOTS);
		j = 0; sum = 0; at_work = 0
	}
}

/* Apply a request if everything that it asserts is so. */
inline arrive(i, r) {
	d_step {
		ok = true;
#ifndef BUG_NO_OWN_ENTRY
		if
		:: !SAME(entry[i], r.seen) -> ok = false
		:: else
		fi;
#endif
		other = (i + 1) % PROCESSES;
		if
		:: r.dead.count == 0
#ifdef BUG_ENTRIES_REPEAT
		:: r.dead.count > 0 && (entry[other].count == 0 || entry[other].until != r.dead.until) -> ok = false
#else
		:: r.dead.count > 0 && !SAME(entry[other], r.dead) -> ok = false
#endif
		:: else
		fi;
#ifndef BUG_NO_CEILING
		if
		:: r.taken > 0 && held + r.taken > SLOTS + r.freed + r.dead.count -> ok = false
		:: else
		fi;
#endif
		if
		:: ok && (held + r.taken >= r.freed + r.dead.count) ->
			held = held + r.taken - r.freed - r.dead.count;
			entry[i].until = r.new.until; entry[i].count = r.new.count;
			if
			:: r.dead.count > 0 -> entry[other].until = 0; entry[other].count = 0
			:: else
			fi
		:: ok && (held + r.taken < r.freed + r.dead.count) -> assert(false) /* more are freed than are held */
		:: else
		fi;
		other = 0
	}
}

/* Keep what an answer shows of the own entry. */
inline learn(i, e) {
	d_step {
		if
		:: SAME(e, p[i].ask.new) && (p[i].waits || p[i].doubt) ->
			p[i].known.until = e.until; p[i].known.count = e.count;
#ifdef BUG_DEADLINE_FROM_THE_ANSWER
			p[i].deadline = now + TTL;
#else
			p[i].deadline = p[i].ask.planned + TTL;
#endif
			p[i].doubt = false
		:: else ->
			if
			:: SAME(e, p[i].known)
			:: else ->
				p[i].known.until = e.until; p[i].known.count = e.count;
#ifndef BUG_KEEPS_LOST_LEASES
				p[i].leases = 0;
#endif
				p[i].deadline = 0; p[i].doubt = false
			fi
		fi
	}
}

/* Nothing is left of a request that has gone: fewer states. */
inline clear(r) {
	r.sent = false; r.planned = 0; r.taken = 0; r.freed = 0; r.seen.until = 0; r.seen.count = 0;
	r.new.until = 0; r.new.count = 0; r.dead.until = 0; r.dead.count = 0
}

/* Plan a write on the present item: take some, give up what no lease holds, take out the other if it has expired. */
inline plan(i, n) {
	d_step {
		other = (i + 1) % PROCESSES;
		p[i].ask.seen.until = p[i].known.until; p[i].ask.seen.count = p[i].known.count;
		p[i].ask.taken = n;
		p[i].ask.freed = p[i].known.count - p[i].leases;
		p[i].ask.dead.until = 0; p[i].ask.dead.count = 0;
		free = SLOTS + p[i].ask.freed - held;
		if
		:: n > 0 && free < n && entry[other].count > 0 &&
#ifdef BUG_EVICTS_BY_ITS_OWN_TIME
			entry[other].until < TOLD(i) ->
#else
			entry[other].until + p[i].error < TOLD(i) ->
#endif
			p[i].ask.dead.until = entry[other].until; p[i].ask.dead.count = entry[other].count;
			free = free + entry[other].count
		:: else
		fi;
		p[i].ask.new.count = p[i].leases + n;
#ifdef BUG_HOLDER_FORGETS_ITS_ERROR
		p[i].ask.new.until = TOLD(i) + TTL;
#else
		p[i].ask.new.until = TOLD(i) + TTL + p[i].error;
#endif
#ifndef BUG_ENTRIES_REPEAT
		if
		:: p[i].ask.new.until <= p[i].last -> p[i].ask.new.until = p[i].last + 1
		:: else
		fi;
#endif
		if
		:: free >= n && (n > 0 || p[i].known.count > 0) ->
			p[i].last = p[i].ask.new.until; p[i].ask.planned = now; p[i].keeps = p[i].leases;
			p[i].ask.sent = true; p[i].waits = true; p[i].answered = false; p[i].writes++
		:: else -> clear(p[i].ask)
		fi;
		other = 0; free = 0
	}
}

/* A second request under way is more than the model needs: a new write waits until the late one has arrived or is gone. */
proctype holder(byte i) {
	byte j, sum, at_work, other;
	short free;
	bool ok;
	atomic {
		if
		:: i == 0 -> p[i].error = 0; p[i].off = ERROR
		:: i > 0 -> p[i].error = ERROR; p[i].off = 0
		:: i > 0 -> p[i].error = ERROR; p[i].off = 2 * ERROR
		fi
	}
	do
	:: atomic { !p[i].waits && !p[i].ask.sent && p[i].writes < WRITES && p[i].leases < SLOTS && !p[i].doubt ->
		learn(i, entry[i]); plan(i, 1) }
	:: atomic { !p[i].waits && !p[i].ask.sent && p[i].writes < WRITES && p[i].known.count > 0 && !p[i].doubt ->
		learn(i, entry[i]); plan(i, 0) }
	:: atomic { p[i].leases > 0 -> p[i].leases-- }
	:: atomic { SPARE(i) && IN_TIME(i) -> p[i].leases++;
		assert(now < p[i].deadline); judge() }
	:: atomic { p[i].ask.sent && p[i].waits -> arrive(i, p[i].ask); p[i].ask.sent = false; p[i].answered = true;
		p[i].shown.until = entry[i].until; p[i].shown.count = entry[i].count; p[i].applied = ok; judge() }
	:: atomic { p[i].waits && p[i].answered ->
		learn(i, p[i].shown); p[i].waits = false; p[i].shown.until = 0; p[i].shown.count = 0;
		if
		:: p[i].applied -> p[i].leases = p[i].leases + p[i].ask.taken
		:: else
		fi;
		p[i].applied = false; clear(p[i].ask); judge() }
	/* The answer is not waited for; the request may arrive all the same, while it is in doubt or later. */
	:: atomic { p[i].waits && lost < LOSSES ->
		lost++; p[i].waits = false; p[i].doubt = true;
#ifdef BUG_NO_DOUBT
		p[i].doubt = false;
#endif
		if
		:: p[i].ask.sent -> p[i].late.sent = true;
			p[i].late.seen.until = p[i].ask.seen.until; p[i].late.seen.count = p[i].ask.seen.count;
			p[i].late.new.until = p[i].ask.new.until; p[i].late.new.count = p[i].ask.new.count;
			p[i].late.dead.until = p[i].ask.dead.until; p[i].late.dead.count = p[i].ask.dead.count;
			p[i].late.taken = p[i].ask.taken; p[i].late.freed = p[i].ask.freed
		:: else
		fi;
		p[i].ask.sent = false }
	:: atomic { p[i].late.sent -> arrive(i, p[i].late); clear(p[i].late); judge() }
	:: atomic { p[i].late.sent -> clear(p[i].late) }
	/* A read settles the doubt if it shows the entry that was sent, or none; else the next write does. */
	:: atomic { p[i].doubt -> learn(i, entry[i]); if :: !p[i].doubt -> clear(p[i].ask) :: else fi; judge() }
	:: atomic { p[i].doubt && !p[i].waits && !p[i].ask.sent && p[i].writes < WRITES && SAME(entry[i], p[i].known) &&
		!SAME(entry[i], p[i].ask.new) -> plan(i, 0);
		if
		:: p[i].ask.sent
		:: else -> p[i].doubt = p[i].late.sent
		fi }
	:: else -> break
	od
}

proctype time() {
	byte j, sum, at_work;
	do
	:: atomic { now < LAST -> now++; judge() }
	:: else -> break
	od
}

init {
	atomic {
		byte i;
		for (i : 0 .. PROCESSES - 1) { run holder(i) }
		run time()
	}
}
