/**
 * Phrases whose meaning differs from that of their single words, with a weight for the whole phrase. `*` matches one to
 * three words. Negations within a phrase do not affect it.
 */
const byWeight: [weight: number, phrases: string][] = [
  [
    4,
    `blew me away|blown away|blows me away|second to none|one of a kind|out of this world|could not be happier
    can not recommend * enough|can not thank you enough|can not say enough good|exceeded my expectations
    exceeded our expectations|exceeded all expectations|beyond my expectations|five stars|5 stars|10 out of 10
    ten out of ten|best ever|could not be better|could not ask for more|could not be more pleased|over the moon
    a must have|could not have been better|can not fault|could not fault`,
  ],
  [
    3,
    `worth every penny|worth every cent|worth the money|worth the wait|worth it|highly recommend|highly recommended
    works like a charm|like a charm|hats off|thumbs up|two thumbs up|top notch|game changer|life saver
    pleasantly surprised|would buy again|will buy again|will be back|will definitely be back|will come back
    will definitely come back|keep coming back|above and beyond|out of their way|out of his way|out of her way
    no complaints|no regrets|look no further|never looked back|never disappoints|never disappointed|never fails
    a breath of fresh air|spot on|state of the art|on point|do not hesitate to buy|hit the spot|to die for
    knocked it out of the park|nothing but praise|nothing but good|you rock|you guys rock|makes my day|made my day
    saved my life|saved the day|night and day difference|crystal clear|well done|good job|great job|nice work
    nothing to criticise|nothing to criticize|nothing to complain|moved to tears|in love with|head over heels
    hard to beat|can not go wrong|a pleasure|no brainer|works perfectly|works great|works flawlessly`,
  ],
  [
    2,
    `i like|we like|i liked|we liked|really like|do like|like it|like how|like that it|like the way|likes it|liked it
    thank you|many thanks|thanks to|thanks again|thanks so much|a lot of fun|no problem|no problems|no issues
    no issue|no trouble|no hassle|no fuss|without a problem|without any problem|without any problems|without problems
    without issue|without issues|without any issues|without a hitch|trouble free|hassle free|never had a problem
    never had any problems|never had an issue|never had any issues|not bad|not too bad|not bad at all|not half bad
    nothing wrong|just works|just worked|as advertised|as described|as promised|as expected|does the job|did the job
    does the trick|did the trick|does exactly what|does what it says|on time|right away|in no time|ahead of schedule
    easy to use|user friendly|good value|value for money|fair price|fair prices|do not regret
    never regretted|not regret|looking forward to|can not wait|could not put it down|can not put it down|saved me
    saves me|saved us|saves us|big fan|huge fan|a fan|kept me hooked|edge of my seat|not a single complaint
    was a hit|a hit with|speaks for itself|true to size|go to place|well worth|pays for itself|no doubt|without doubt
    hard to find fault|could not live without
    can not live without|not disappointed|not be disappointed|not be sorry|will not regret|took care of|happy to help
    went smoothly|up and running|a steal|better than expected|better than i expected|like new`,
  ],
  [
    0,
    `would like|should like|if you like|whether you like|like to know|feel like|look like|looks like|looked like|like a
    thanks in advance|thank you in advance|please advise|good morning|good afternoon|good evening|best regards
    kind regards|warm regards|kind of|sort of|best wishes|free of charge|at best|as well|as well as|well over
    good day|good night|a good deal of|wish to cancel|hard drive|hard disk|hard disc|hard copy|hard cover
    error code|error codes|error message|error messages|damage cover|water damage|cold water|dry season
    dry run|free time|how well|so so|pros and cons|for better or worse|all right|get well|help me|pretty much
    miss you|fine print|fine art|first class mail|no one|sweet potato|sweet potatoes|soft drink
    soft drinks|hot and cold|a great deal of|smart phone|smart watch|safe mode|fresh water|well known|worth of
    bug report|bug reports|bug fix|crash course|crash test|problem solving|problem set|clean up|fit in|free trial
    best before|how good|good friday|no matter|break down of|break even|coffee break|lunch break|spring break
    fast food|lie down|lies in|lies between|miss a call|in case of|special characters|secure your|risk of|cause of
    causes of|not sure|not sure whether|worry about|do not worry|sick leave|strong password|what kind of|that kind of
    this kind of|some kind of|any kind of|all kinds of|missing from the list|rough estimate`,
  ],
  [
    -2,
    `let down|let me down|let us down|falls apart|fell apart|fall apart|falling apart|came off|comes off|fell off
    stopped working|stops working|does not work|did not work|do not work|not work|not working|would not work
    will not work|no longer works|never worked|never works|keeps crashing|keeps freezing|keeps failing
    keeps breaking|out of order|on hold|no answer|no reply|no response|does not reply|did not reply|never replied
    never answered|never responded|never called back|no explanation|without any explanation|without explanation
    without warning|makes no sense|make no sense|made no sense|no sense|too long|too short|too small|too big|too loud
    too slow|too expensive|too late|too much money|too many ads|too heavy|too hot|too salty|too sweet|too tight
    nothing special|so what|leaves much to be desired|a lot to be desired|less than ideal
    not worth|not worth it|was not worth|is not worth|expected better|expected more|deserve better|high hopes
    high expectations|wish i had not|fed up|tired of|sick of|had enough|give up|gave up|gives up|charged twice
    double charged|hidden fees|hidden costs|hidden charges|never arrived|not arrived|did not arrive|has not arrived
    not received|never received|never came|still waiting|still no|no refund|back and forth|wild goose chase
    not impressed|does not fit|did not fit|hung up on|no backup|no help|of no use|no use|no value
    lack of|run of the mill|no point|not good|not great|so called
    nobody cares|nobody seems to care|could not care less|does not care|do not care|did not care|better off
    look elsewhere|go elsewhere|take my business elsewhere|do not trust|would not trust|used to be|can not find
    could not find|could not solve|would not buy|will not buy|would not start|will not start|not turn on
    can not log in|can not connect|over cooked`,
  ],
  [
    -3,
    `waste of money|waste of time|waste of space|waste your money|waste your time|waste my time|wasted my money
    wasted my time|money back|never again|steer clear|stay away|stay clear|keep away|rip off|ripped off|zero stars
    0 stars|one star|1 star|do not buy|do not bother|do not recommend|would not recommend|can not recommend
    could not recommend|not recommend|not recommended|thanks for nothing|thanks a lot for nothing|what a joke
    a joke|last straw|food poisoning|false advertising|bait and switch|piece of junk|piece of crap
    pile of junk|down the drain|could not be worse|never buy|never use|never order
    never shop|never come back|never go back|not come back|not be back|will not be back|avoid at all costs
    at all costs|slap in the face|nail in the coffin|good for nothing|dead on arrival|highly disappointed|beyond repair
    not fit for purpose|unfit for purpose|adds insult to injury|gone downhill|went downhill|going downhill
    beyond a joke|horror story|from hell|not acceptable|oh great|oh wonderful|oh joy|yeah right
    just great|just brilliant|just wonderful|as if|way overpriced|would be great if|would be nice if`,
  ],
]

/** Words in lower case with contractions expanded (`can not`), as `tokenise` returns them. */
export const PHRASES: readonly { words: string[]; weight: number }[] = byWeight.flatMap(([weight, phrases]) =>
  phrases
    .trim()
    .split(/\s*[|\n]\s*/)
    .map(phrase => ({ words: phrase.split(' '), weight })),
)
