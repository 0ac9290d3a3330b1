"""An experiment sweep over model size x batch strategy: accuracy and cost of multilingual dense retrievers.

One word per concept, in code, config, docs, tables and messages:

    run                 one model trained with one strategy and one seed, evaluated and profiled: one record
    system              the runs of all seeds of one model x strategy x inference variant: one point of a plot
    inference variant   backend, precision, lengths, width, index, centre, query encoder, fusion: what changes without
                        training (`variants=`)
    distilled           of an encoder, the student: trained on the vectors of a larger one, its teacher
    lexical             of BM25, which counts shared terms, where an encoder is dense; `fusion` ranks by both
    Pareto front        the systems that no other beats at once on cost and accuracy
    cache key           hash of all that a stage's result follows from
    quality checks      whether a profile may be believed: passed or failed
    meter               one measurement of a profile, a file in profiling/meters/
    capacity            queries per second that a system carries within a limit on p99 latency: pipeline.load
    truncated           of texts, embeddings and depth
    query, passage      the field's, as are qrels, X-X-mono, X-Y, and the settings mono, cross and multi
    report              report.html and its tables: the command pipeline.report
    archive             a results folder of few bytes, from which reports are made anew: the command pipeline.archive
    verdict, cards      what to deploy: a sentence, and the systems most accurate, best value, cheapest worth having

To read the code, start with `experiment`, which reads as a method section; docs/design.md draws the rooms.
"""
