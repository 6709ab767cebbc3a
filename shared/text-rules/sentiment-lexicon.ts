/**
 * The words that `sentiment`goes by: English, our own, weighed by ear from -4 to 4.
 *
 * Regular endings (-s, -ed, -ing, -ly and so on) are found by way of the stem; a form is listed where it is or
 * weighs something else. A word at 0 stands here because its stem would be found otherwise (`kindly`is not `kind`).
 */
const byWeight: [weight: number, words: string][] = [
  [
    4,
    `amazing awesome best breathtaking brilliant divine exceptional exquisite extraordinary fabulous fantastic flawless
    heavenly incredible magnificent marvellous marvelous masterpiece mindblowing outstanding perfect perfection
    phenomenal sensational spectacular splendid stellar stunning sublime superb superlative terrific unbeatable
    unrivalled unforgettable wonderful wow`,
  ],
  [
    3,
    `adorable adore beautiful beloved bliss blissful captivating charming cherish dazzling delicious delight delighted
    delightful ecstatic elated elegant enchanting enjoy enjoyable enjoyed enthralled excellent excellence excited exciting
    exhilarating favorite favourite first-class first-rate genius glorious gorgeous grateful great greatest happiest
    happy happily heartwarming hilarious impeccable impressed impressive ingenious invaluable joy joyful joyous lifesaver
    love loved lovely loves loving lovingly luxurious mesmerizing overjoyed priceless radiant remarkable riveting rocks
    scrumptious succulent superior thrilled thrilling treasure triumph unmatched win-win world-class yummy exquisitely
    top-notch gem lifesaving`,
  ],
  [
    2,
    `accomplished admirable admire affordable amused amusing appealing appreciate appreciated appreciation appreciative
    approve attentive attractive bargain beautifully beauty better blessed blessing bonus brave breeze bright calming
    celebrate charm cheerful classy clever comfortable comfy commend compelling compliment complimentary confident
    congrats congratulations considerate convenient cool courteous cosy cozy creative cute dependable desirable durable
    eager ease easiest easy effective efficient effortless empowering encouraging endearing engaging enthusiastic ethical
    exemplary expertly fan fascinating flavorful flavourful fond fortunate fresh friendly fun funny
    generous gentle genuine gifted glad good good-looking goodness gracious handy harmonious healthy helpful honest
    hospitable hooray hurray improved improvement innovative insightful inspired inspiring intelligent interesting
    intuitive inviting juicy kind kindness kudos laughed likeable lively lucky melodious memorable merry moving neat nice
    nicely nicer nicest optimistic painless passionate peaceful pleasant pleased pleasing pleasure plush polished
    polite praise pretty productive professional proud recommend recommended refreshing reliable
    relief relieved respectful responsive rewarding robust romantic satisfied satisfying satisfactory scenic seamless
    seamlessly sensible skilful skillful sleek smart smile smooth soothing sophisticated spacious spotless stylish
    sturdy success successful supportive sweet talented tasty tasteful tender thankful thorough thoughtful
    thrive tidy top-quality trustworthy trusty uplifting upbeat versatile vibrant victory warm-hearted welcoming
    well-built well-designed well-made well-written win winner wise witty worthwhile yay ace bravo cheers crisp
    crispy crystal-clear dreamy hassle-free hooked loyal lush nifty nutritious speedy stress-free streamlined
    user-friendly valuable wholesome knowledgeable masterful`,
  ],
  [
    1,
    `accurate accurately adequate agreeable balanced beneficial benefit bold
    capable careful clean clear clearly colourful colorful comfort competent consistent correct
    decent deserve earnest easier enhance enhanced faster fair fast favorable favourable fine fit
    flexible gladly grand helped hope hopeful ideal improve informative
    interested legit luck luxury organised organized patient
    patiently plentiful positive powerful practical precise promising prompt promptly proper properly quick
    quickly quicker quiet reasonable rich safe save saved secure simple snappy softer soft solid
    solved special speed stable steady straightforward strong suitable swift thank thanks thx
    trust useful warm warmly welcome well worth worthy works fixed sorted`,
  ],
  [
    -1,
    `accident ache aggressive alarming aloof arrogant basic bland blame bleak
    bother bulky bug bugs buggy careless cheap clunky cold coldly complain complaint complicated
    confused confusing confusion crowded cry cryptic cumbersome damn dated delay delayed
     difficult difficulty dirty disagree disconnect doubt doubtful drab dreary dry dull dumb dusty
    error errors excuse excuses expensive fade fake fatigue fault faults fear fiddly flicker flimsy
    forced forgettable fragile generic glitch greasy hard harsh hesitant hiccup hole impersonal impossible inaccurate
    incomplete inconsistent inconvenience inconvenient issue issues lack lacking lacks lag laggy
    lags late lazy leak leaks limp lonely lose loses lukewarm mediocre messy miss
    missed missing misses mistake mistakes moody murky muddy monotonous nag nervous noisy
    outdated overheat overheats overlong patchy pointy predictable pricey problem problems
    questionable refused reject rejected restless rough rusty salty scarce sceptical skeptical scratch scratched
    scratches shaky shallow silly slippery slow slower slowly smelly sorry spotty squeaky stain stains stale
    stiff sticky struggle struggled struggling stuck stuffy tacky tedious tense
     tinny tired tiring tough tricky trouble troubled trivial unable uncertain unclear undercooked
    uneven unfinished unfortunately uninspired unlucky unsure unstable untidy vague waited weak weaker weary
    weird wobble wobbly wonky worn worried worry wrinkled wrong crack cracked alas shortage
    sadly hung lost bored clumsy crude unwanted`,
  ],
  [
    -2,
    `abandoned faded losing soaked cramped abuse abrupt annoy annoyed annoying annoyance angry anger anxious apathetic appalled ashamed avoid awkward
    bad badly bankrupt bitter blunder boring botched break breakage breaks broke broken burned burnt chaos chaotic
    cheat claustrophobic clueless collapse corrupt corrupted crap crash crashes crashed crashing cringe
    cruel damage damaged damages danger dangerous deceptive defect defective defects deficient depressed depressing
    deprived despair desperate destroy destroyed deteriorate dismissive dismal disappoint disappointed disappointing
    disappointment disappoints disapprove discomfort discourage discourteous dishonest dislike
    disliked disorganised disorganized displeased disrespectful dissatisfied dissatisfaction distasteful distorted
    distressing disturbing dizzy dodgy dreaded embarrassed embarrassing evasive exhausted exhausting fail
    failed failing fails failure faulty filthy foul frail freeze freezes frustrate frustrated frustrating
    frustration furious gimmick gloomy greedy grim gross grumpy hang hangs harm harmful hassle hopeless
    hostile hurt hurts ignorant ignore ignored ill impolite inadequate incoherent incompetent incompetence indifferent
    inedible ineffective inefficient inept inferior infuriated insecure insult insulted insulting
    intrusive irresponsible irritate irritated irritating jarring junk lame letdown liar lie lied lies loser lousy
     malfunction malfunctioned malicious mess miserable misleading mistreated mislead mouldy moldy nasty negligent
    negligence nonsense nonexistent obnoxious offended offensive outraged overcharged overcooked overpriced overrated
    pain painful painfully pathetic patronising patronizing petty pity pointless poor poorly pretentious
    rage regret regrets regretted rip-off ripped-off rot rotten rude rudely ruin ruined sad shabby
    shame shameful shoddy sick sickening sluggish smell smelled smells spoiled spoilt stingy stink stinks
    stupid subpar substandard suck sucks suffer suffered suffering suspicious tasteless terrified tiresome
    torn toxic trash ugh ugly unappetising unbearable uncomfortable underwhelmed underwhelming
    unethical unfair unfriendly unhappy unhelpful unhygienic unimpressed unimpressive unpleasant unprofessional
    unreliable unresponsive unsafe unsatisfied unsatisfactory unusable unwelcome unwell upset upsetting useless vile
    violent waste wasted wasteful wasting worse worsen worthless wreck yikes cheated soggy sloppy lacklustre lackluster
    rancid tearing infested cockroach cockroaches poisoning unresolved unanswered`,
  ],
  [
    -3,
    `abusive abysmal agonising agonizing agony appalling atrocious awful beware catastrophe catastrophic con criminal
    deceived deceitful deplorable despicable despise despised detest detested devastated devastating disaster disastrous
    disgrace disgraceful disgust disgusted disgusting dreadful enraged evil excruciating fiasco fraud fraudulent ghastly
    hate hated hates hating hateful hatred heartbreaking heartbroken hideous horrendous horrible horrid horrific
    horrified horror idiot idiotic idiots insufferable intolerable laughable loathe loathed loathsome ludicrous lying
    nightmare nightmarish outrageous repulsive revolting ridiculous robbed scam scammed scammer scammers shambles
    shocking shockingly swindle swindled terrible terribly torture traumatic unacceptable unforgivable unwatchable vomit
    wretched`,
  ],
  [-4, 'abomination garbage worst'],
  [
    0,
    `kindly likely likes hardware fairly finely shortly really coolant surely lately hardly
      goods interest interests wells
    awfully insanely crazily ridiculously incredibly amazingly extraordinarily exceptionally remarkably terrifically
    prettily fans breakfast breaking saving safely passed helping`,
  ],
]

/** Weighs of emoji and emoticons; the skin tone is taken off before. */
const faces: [weight: number, faces: string][] = [
  [3, '😍 🥰 🤩 😻 💖 💕 💯 🏆'],
  [
    2,
    '😀 😃 😄 😁 😊 🙂 😎 🤗 😂 🤣 ❤ ♥ 💙 💚 👍 👏 🙌 🎉 🥳 😘 🔥 ✨ 🙏 💪 👌 😋 😌 🌟 ⭐ :) :-) :D :-D =) ;) ;-) <3 :]',
  ],
  [-2, "🙁 ☹ 😞 😟 😔 😢 😕 😣 😖 😫 😩 😒 🙄 👎 😤 😓 💔 😰 😥 😑 :( :-( :[ =( :/ :-/ :'( >:("],
  [-3, '😡 😠 🤬 🤮 🤢 💩 😭 🖕 😱'],
]

/** Splits on spaces; each word with the weight of its row. */
const table = (rows: [number, string][]): Map<string, number> =>
  new Map(
    rows.flatMap(([weight, words]) =>
      words
        .trim()
        .split(/\s+/)
        .map(word => [word, weight] as const),
    ),
  )

export const WORDS: ReadonlyMap<string, number> = table(byWeight)
export const FACES: ReadonlyMap<string, number> = table(faces)
