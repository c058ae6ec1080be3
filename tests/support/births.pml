/* Processes whose limit of one name changes between two rates, and the accounts that the bucket holds for them.
 *
 * Each process plans a call for one unit on the item as it saw it last, or has not seen it at all, and its request arrives later.
 * Where its view has no account of its rate, the request creates one: with the units that are used under the other rate, which
 * only a look just before may tell, or with none, where neither an account nor a mark of another rate was seen. ADR-172 has the
 * rules; core/limits/births.py and core/limits/account.py are the code. Lost answers are those of protocol.pml.
 *
 * The observer knows how many units were ever admitted, under each rate and in all.
 */

#ifndef PROCESSES
#define PROCESSES 2
#endif
#ifndef LAST
#define LAST 5     /* the last moment; the first is 1 */
#endif
#ifndef CHANGES
#define CHANGES 2  /* of the limit, in each process */
#endif
#ifndef WRITES
#define WRITES 4   /* of each process */
#endif

#define CAPACITY 2
#define COST(rate) (1 + (rate))  /* moments in which a unit refills */
#define USED(tat, rate) (tat > now -> (tat - now + COST(rate) - 1) / COST(rate) : 0)
#define LEAST(a, b) (a < b -> a : b)

/* What a process saw: the accounts, absent at 0, the mark, which is 0 or a rate and 1, and how many were admitted by then. */
typedef View { byte tat[2], mark, admitted };

typedef Process {
	byte rate, changes, writes;
	View view;
	bool fresh;            /* the view was looked at for the plan that comes next */
	bool sent, birth, idle, takes;
	byte mine, mark, tat, ceiling, inherited, known
};

byte now = 1, mark, admitted;
byte tat[2], under[2];
Process p[PROCESSES];

inline look(i) {
	p[i].view.tat[0] = tat[0]; p[i].view.tat[1] = tat[1];
	p[i].view.mark = mark; p[i].view.admitted = admitted;
}

inline plan(i) {
	p[i].mine = p[i].rate;
	p[i].known = admitted;
	if
	:: p[i].view.tat[p[i].mine] > 0 ->
		p[i].birth = false;
		p[i].takes = true;
		p[i].idle = p[i].view.tat[p[i].mine] <= now;
		p[i].tat = now + COST(p[i].mine);
		p[i].ceiling = now + (CAPACITY - 1) * COST(p[i].mine);
		p[i].sent = true
	:: else ->
		if
		:: p[i].view.tat[1 - p[i].mine] == 0 && (p[i].view.mark == 0 || p[i].view.mark == p[i].mine + 1) ->
			p[i].inherited = 0;
			p[i].mark = p[i].mine + 1;  /* or none */
			p[i].sent = true
		:: else ->
			if
			:: p[i].fresh ->
#ifdef BUG_NOTHING_IS_INHERITED
				p[i].inherited = 0;
#else
				p[i].inherited = LEAST(USED(p[i].view.tat[1 - p[i].mine], 1 - p[i].mine), CAPACITY);
#endif
				p[i].mark = p[i].view.mark;
				p[i].known = p[i].view.admitted;
				p[i].sent = true
			:: else -> look(i); p[i].fresh = true  /* The next step plans. */
			fi
		fi;
		if
		:: p[i].sent ->
			p[i].birth = true;
			p[i].takes = p[i].inherited < CAPACITY;
			p[i].tat = now + (p[i].inherited + p[i].takes) * COST(p[i].mine)
		:: else
		fi
	fi;
	if
	:: p[i].sent -> p[i].fresh = false; p[i].writes++
	:: else
	fi
}

/* Whether the conditions of a request hold in the item. */
#define MARKED(i) (mark == p[i].mark || (mark == 0 && p[i].mark == p[i].mine + 1))
#ifdef BUG_NO_MARK
#define BORN(i) (tat[p[i].mine] == 0)
#else
#ifdef BUG_OVERWRITES
#define BORN(i) MARKED(i)
#else
#define BORN(i) (tat[p[i].mine] == 0 && MARKED(i))
#endif
#endif
#define MAY_TAKE(i) (p[i].idle -> tat[p[i].mine] <= p[i].tat - COST(p[i].mine) : tat[p[i].mine] <= p[i].ceiling && tat[p[i].mine] > 0)

inline arrive(i) {
	if
	:: p[i].birth && BORN(i) ->
		/* What is used under the other rate was inherited, or admitted since the process looked. */
		assert(LEAST(USED(tat[1 - p[i].mine], 1 - p[i].mine), CAPACITY) <= p[i].inherited + admitted - p[i].known);
		tat[p[i].mine] = p[i].tat;
		mark = p[i].mine + 1;
		admitted = admitted + p[i].takes;
		under[p[i].mine] = under[p[i].mine] + p[i].takes
	:: !p[i].birth && MAY_TAKE(i) ->
		if
		:: p[i].idle -> tat[p[i].mine] = p[i].tat
		:: else -> tat[p[i].mine] = tat[p[i].mine] + COST(p[i].mine)
		fi;
		admitted++;
		under[p[i].mine]++
	:: else -> p[i].fresh = true
	fi;
	look(i);
	p[i].sent = false;
	/* Each rate admits what it would by itself. */
	assert(under[0] <= CAPACITY + (now - 1) / COST(0) && under[1] <= CAPACITY + (now - 1) / COST(1))
}

active [PROCESSES] proctype process() {
	byte i = _pid;
end:
	do
	:: atomic { !p[i].sent && p[i].changes < CHANGES -> p[i].rate = 1 - p[i].rate; p[i].changes++ }
	:: atomic { !p[i].sent && p[i].writes < WRITES -> plan(i) }
	:: atomic { p[i].sent -> arrive(i) }
	:: atomic { !p[i].sent && !p[i].fresh -> look(i) }
	od
}

active proctype clock() {
end:
	do
	:: now < LAST -> now++
	od
}
