# julia consumer.jl EXPORT/2026.1 right|wrong      (reads the text form)
const folder, choice = ARGS
const wrong = choice == "wrong"

# The implementation; if `wrong`, with a known mistake in each function.  Arrays are flat, the last index fastest.

function gae_rollout(x) # gae-done-late
    rewards, values, dones, last = x["rewards"], x["values"], x["dones"], x["last_values"]
    gamma, lambda, N, E = x["gamma"][1], x["gae_lambda"][1], length(rewards), length(last)
    advantages = zeros(N)
    for i in N:-1:1 # from the last row up; i + E is the next time step of the same environment
        open = i + E > N
        alive = 1 - dones[wrong && !open ? i + E : i]
        next, later = open ? (last[i + E - N], 0.0) : (values[i + E], advantages[i + E])
        advantages[i] = rewards[i] + gamma * next * alive - values[i] + gamma * lambda * alive * later
    end
    return Dict("advantages" => advantages, "value_targets" => advantages + values)
end

function clipped_objective(x) # clip-min-before-adv
    A, clip = x["advantages"], x["clip"][1]
    r = exp.(x["new_log_prob"] - x["old_log_prob"])
    c = clamp.(r, 1 - clip, 1 + clip)
    terms = wrong ? min.(r, c) .* A : min.(r .* A, c .* A)
    return Dict("objective" => [sum(terms) / length(A)])
end

function kl_diagonal_gaussian(x) # kl-reversed
    p, q = wrong ? ("new_", "old_") : ("old_", "new_")
    m0, s0, m1, s1 = x[p * "mean"], x[p * "log_std"], x[q * "mean"], x[q * "log_std"]
    terms = s1 - s0 + 0.5 * (exp.(s0 - s1) .^ 2 + ((m0 - m1) ./ exp.(s1)) .^ 2 .- 1)
    return Dict("kl" => vec(sum(reshape(terms, Int(x["A"][1]), Int(x["B"][1])), dims=1)))
end

# The judge.

function judge(op, answer)
    factor = floor = u = 0.0
    id, stability, table, verdicts = "", false, Dict(), Bool[]
    for line in eachline(joinpath(folder, op * ".txt"))
        words = split(line, ' ')
        number(i) = parse(Float64, words[i])
        if words[1] == "tolerance"
            factor, floor = number(2), number(3)
        elseif words[1] == "roundoff" && words[2] == "float64"
            u = number(3)
        elseif words[1] == "case"
            id, stability, table = words[2], words[4] == "1", Dict()
        elseif words[1] in ("dim", "input", "value", "R", "largest")
            keyword = words[1] == "dim" ? "input" : words[1]
            of_keyword = get!(table, keyword, Dict())
            get!(of_keyword, words[2], [number(i) for i in 5+parse(Int, words[4]):length(words)]) # the first stays
        elseif words[1] == "end" && stability
            println("NOT ASKED  ", id)
        elseif words[1] == "end"
            answers, worst = answer(table["input"]), 0.0
            for (leaf, value) in table["value"]
                R = max.(table["R"][leaf], floor * table["largest"][leaf][1])
                tolerance = factor * u * R + 0.5 * (nextfloat.(abs.(value)) - abs.(value))
                worst = max(worst, maximum(abs.(answers[leaf] - value) ./ tolerance)) # max keeps NaN
            end
            println(worst <= 1 ? "CONFORMS   " : "WRONG      ", id, "  ", worst, " x tolerance")
            push!(verdicts, worst <= 1)
        end
    end
    return verdicts
end

implementation = ["gae_rollout" => gae_rollout, "clipped_objective" => clipped_objective,
                  "kl_diagonal_gaussian" => kl_diagonal_gaussian]
verdicts = reduce(vcat, [judge(op, answer) for (op, answer) in implementation])
println(length(verdicts), " judged, ", count(!, verdicts), " wrong")
exit(isempty(verdicts) ? 4 : Int(!all(verdicts)))
