"""Ordinary English words that look like a misspelt name of the domain and are not one.

"Attentive" is no typo of "attention". Written by docs/lookalikes.py from the word list SCOWL; not edited by hand.
"""

_WORDS = """
    abdomens abided abides ablative ablution ablutions abode abolition abortion abound abrasion absences absented
    absentee abstention abstract accessed accesses accorded accords accurate achieved achiever achievers achieves
    acoustical acoustics acquisitions acquisitive actinium activating actuality adapting addictive addition additives
    admiration adoptive adulation adversaries adware aerate aerating agreements aground aldermen algorithmic alibis
    alice alignments aline alinement alive allays aloha alphas altos ambiences amperage analysts analytic analyzed
    analyzer analyzers analyzes anatolia anatolian anatomic anatomically anatomies anatomist anchored andean andersen
    angering annexation annexations annotating annually answered antagonisms antagonist antagonistic antagonists
    anteroom anther antibody antone anythings applications applicator approached appropriated appropriately
    appropriates approximating approximations arbitrarily arbitrate archetype archetypes archetypical architecturally
    architectures argumentation aromatic artifice artifices artificially ashing aside aspirating aspirations
    assailable assay assented asserted assessed assigned assignment associating associations associative assorted
    asthmatic asuncion asymmetric attentions attentive attenuating attestation attributed atypical audio audition
    auditions auditorium auditory audits augmentations authority authorize autocratic automata automated automates
    automatics automaton automatons autos averaged averages aviation avoidable awake award axiomatic baaed babblers
    babbles backboard backbones backdrop backdrops backer backgrounds backhand backstop backwards backwash backyard
    backyards badinage bakelite balanced balances balder baled balinese balked ballasts banked bared barked barnett
    barrette barrettes bartlett basel baselines baser bashed basic basics basie basil basin basins basks bassi basted
    bastes batched bated bathes batter battle bayed beach beast beasts beaten beats became becomes beech beelines
    beholden beholder belch benchmarks besets bessel bessemer bestir bests bette betted bettered betters bettor
    bewilder bicameral bidder bilaterally binder biologists bitch bitches bitching bitter blacked blacks blacktop
    blanches blank blast blasters blench blending blinders blindest blinding blinds blinkers blinks blintzes block
    blond bloods bloody bloom blotches blunting blurring blurting boarding boasts boats bobbles bodes boinking bolder
    boles bondage bonding bondsman bones bores botch botches bottled bottlenecks bottles bouncing bowed bowell bowels
    bowen bower boxed boxen boxer boxers bracts brads brags braid brains brainy branched branding brass brawn brays
    breaches breakers breakups breasted breasts breathes brest brewster brian britches brits brood bruin brunt bubble
    bubbled bubblier bubbliest bucked build builder builders building bulletin bumblers bumbles bunch bundling burbles
    burdened buried burner burns burped burred burst bused buster butch butchers butches butter bylines cabernet
    cabinet cabinets cabled cadenza cadenzas cafes cages cakes calibers calibrating calibrations calibrator caliper
    calipered calked caller calliper callipers calls callused calmed calved camber cambered cambia cambrian cameroon
    camps campsite campsites campus camry cancel cancers canes canker cannon canter canto canvased capability
    caparison capsizes capsuled captaining captures cardenas cardigan cardinal caret carets carey cargo caries carla
    carlos carnation carnot carol carolled carotids carousal carted cartel cartels carter cartoon cartooned cartooning
    cartoons carts caryatid cased casey cashes caste castor casual caudal causality causally causes cautioning caves
    cavilled cease ceases celebration celli cello cellos celts censures center centered centers centimes centrals
    centuries certainly certainty certificating certifications cervices cervixes chained chains chair chaise chalking
    challenged challenger challengers challenges chambers chameleon chance chancel chancels chandler chanel chang
    channeled channels chanter chanters characteristics charge charger chargers charlene charters chartres chase
    chases cheapen cheapness cheater cheaters cheating checkering checkers checklists checkups cheek cheeking cheeks
    cheep cheeping cheer cheering cheesing chess chestnut chests chewer chewiest chick chicks chiefer chinking chock
    chocking chocks choicer choices choicest chooses choosey choosy chortles chose chuck chucking chuckling chucks
    churches citation clacking clamber clambers clams clans clappers claps clare clarification clarifying clasps
    classed classes classics classifications classified classifieds classifies classing classy clattered clattering
    clatters claus claws cleanest clearest cleaver cleavers clerking cleverer cleverly clicking climates climaxes
    clippers clocking cloistered cloistering cloisters close clover clucking clunkers cluster clutches cluttered
    cluttering clutters coaches coarsely coarsen coarsens coarsest coasters coefficients coffined cognition coherent
    coinages coincide coincidence colin collared collaring collision collusion colonoscopies colons colony colors
    combating combine combines commence commend commends commented comments commonest commute commuted commuter
    commuters compacter compactest compacting companion comparably comparisons compassed compassing compassion
    compatible competed competent competes competing compiling complaisance completed completer completes complexes
    complexities compliant complicity complying components comporting composer compositor compositors composts
    composure compotes compress computation computationally computations computers computing conceals concedes conceit
    conceits conceive conception conceptions conceptually concerns concert concerti concertos concerts concession
    concetta conches concisely conciser concisest concocts conditionally conditionals conditioned conditioner
    conditions conductivity confession confided confidences confident confides confined confluence confound confounded
    confounds confucian confusing confusions confuted congests conjuring connective connector connectors connects
    connivance conniver connoted consent conservation conservatism conservatives considered considers consistent
    consistently consolation constance constant consumer contend contends contented contents contexts contextual
    contiguity continence continent continuing contorting contract contractile contracts contractual contralto
    contrarily contrasted contrasting contrasts contributing contributor contributors contrition controller
    controllers contusing contusion contusions convened convenes convenience convergences convergent converts convince
    convocation convoluted convolutions convulsion coopered coopering copes corduroy cores corine corollary coronado
    coroners correctest correction corrections correctly correlate correlating correlative correlatives corrugation
    corrugations corruptness corteges corteses cortex cortexes cortez cortical cortices cosigned cosigner cotes
    cottoned cottons couched coulter countering counters county couple couples couplets coups coursed courses court
    courted courtesy courtier courts cracking craftier crafts crafty crate crated crates creaking creating creations
    creative cremation cremations cress crest cricking criterion critically criticize criticizes critics critique
    critiques croatian crops crossest crotches crouched crouches crows cruft crufted crunches crutches culled culls
    cunts cures curie curies currant currants currents curry curses curtain curtains curved curviest curvy cynically
    dales daley daring deanna debugger debugs debunking debut debuting decisive declination decode decoded decodes
    decryption deducting deduction deere defaulted defaulter defaults defeating defecating defecation defect defected
    defecting defection defector defectors deference deflation deflecting deflector deflectors defogger degree deice
    deices deign deject dejected dejecting dejection delegation deletions delia deliberation delineating delineations
    della deltas deluging delusions demising demotion denial denise denoting denseness denser dependance dependencies
    dependency dependent dependents depicting depiction depletion deposing deputies derail derision described
    describes descried descries descriptive descriptor descriptors deserter deserting designed designer designs
    despising detaching detailed details detain detected detective detects detentes detention detentions deterring
    detest detested detesting detracting detraction detractor detractors developed develops deviance deviates devise
    devises devising devotion diabetes diabetics diabolic diagnosed diagnoses dialectic diana diann dianne diereses
    diesels dieter dietetic diffed differences differential differentials differentiate differently differing differs
    diffidence diffident diffused diffusely diffuses diffusing digestion digestions digitalis digitally dilation
    dimensions dioceses directer directional directive directives disagreed disagreements disagrees discriminate
    discriminating discrimination diseased diseases disentangle disentangles dispense dispenses dispersal dispersed
    disperses dispersion displease dissected dissecting dissections dissects dissent dissents disses distanced
    distances distension distillations distinct distorting distortions diuretic diverge diverged diverges divers
    diversify diverted divisions dniester doctoral doctored doctorow domains donne dovetail dries drive dropouts
    drugging duding duffer duping earliest easiness easter edifying editions educates effecting effectively efficiency
    efficiently ejecting ejections elective electors electric electrode electronic electrons elemental elements
    eleventh elimination eliminations elision elopement embodying embryos emending eminence emitting emulates
    emulsions enact enchanted encode encoded encoders encodes endorser endorsers enema enfeeble engender engenders
    engineered enhance enhancer enhances enmities ensembles entailed entangle entanglements entangles entitled
    entitles entranced envision epidemic epsilons equities erection erections errol esophagi esophaguses esther
    estimable estimated estimates estimating estimations ether evacuate evacuated evacuates evacuating evacuation
    evacuations evaluated evaluates evaluations evicting eviction evidenced evidences evolution exacts exaggerating
    exaggerations exalt examines exampled exasperation excavation excepted excerpts excision exciting exclaimed
    exclaiming exclaims exclamation exclamations executed execution exemplars exemplary exert exertion exerts existing
    exiting expedited expelled expended expiated expiates explicating exploitation exploited exploiter exploiters
    exploiting exploits export exporter exports external extremely extremer extremes extrication exultation fable
    faceting facings faction factional factored factorial factories factorize factory fading failures fainer faintest
    faithfully faithfuls faking fallen fallowing falls false fancying faring farther farthest fasted fasten fastener
    fastness fatal fating fatter fattest fattiest fault faulty faxing fazing feasibly feathers featured fecal feedbags
    feedings fending feral festal fester fiber fictional fictions fiddling fielding fields fiend fighting figured
    figurine figurines filed filler fillings filly filtered filters filthier finality finder fined finery fines finger
    fining finking fissures fitter fittingly fittings fiver fixating fixer flail flairs flames flapping flashest
    flattest flatting flicking flippant flippies flitting flopping fluids fluorescent foetal foisting followings folly
    fonder fondle fondling fondue fondus forewarn foreword formation forwarded forwarder forwards foster foully
    foundations founding fracking fractions fractious fracture frame framed framer framers frameworks fretting
    friction friended friending frigidly fringing fronde froths fruition fulls fumed functionally functionary funding
    funds fundy fungus furthered furthers furthest fuses fusions fussed fustiest futon fuzed gages gales gallbladders
    games gapes garaging gases gated gazes gazetting genera generalize generalizes generally generals generated
    generates generations generators generics genetic genetics gentling gestating gestured gestures gibing gigapixels
    glads glassy glided globally gloss glutting goading grabbing gracing grads grady grafting grafts granting grape
    graphed grapnels grapples grasping grass grassing grates grating gratings graving graying grazing greasing greed
    greek greene greens greer greet greeting grieving gritting grouched grouching grounder grounders groundhog
    groundings grounds groupers groupies grouping grousing grout grouting grouts grownups grudging grunting guarding
    guesting guide guides gutting gyrating haling halving haman handcraft handcrafts handel handled handler handlers
    handles happened happens hardback hardtack hares haring hassling hasting hastings hatching hating hawing haying
    hazing health healthily heard hears hearst hearth hearts hearty heaving heist heists helpfully hides
    hierarchically highlighted highlighter highlighters hikes hines hippos hippy hired hives hiving horus hospitable
    hospitably hospitals howsoever huffman humane humans hushing hybrids identify ignored ignores imaged imagine
    imagines imagining immensity immersion immunity impaling implausibly importantly importing impotence impotent
    imprinting impunity impurely inaction inboards inceptions inclining inclosing included includes incoherently
    inconsistent inconsistently increased increases incursion indecently independently independents indicated
    indication indicators indict indicted indicts indies individually individuals indorses induce induces ineptitude
    infant infantry infarction infecting infections infectious infer inference infernal infertile infiltration infirm
    inflames inflation inflection inflections infliction influenced influences influencing influential influenza
    informal informational informative informed informer informers informs infractions ingenious ingenuity inhere
    injection injections inserting insertions insider insiders insides insight insights instalment instalments
    instanced instancing instant instinct instincts instrumental instrumentals instrumented insurance insurances
    integers integrate integrates integrating integrity intel intelligent intensely intensest intensify intensive
    intent interacts interbred intercept interested interests interj interject interjection interment intern internal
    internally internee internees internist interpretative interpreter interpreters interpretive interprets
    interrelation interrelations inters intersect intersecting intersections interval intervals interventions
    intruding intuiting intuitions intuitive invariable invariant invasion inversely inverses inversions inverted
    investigate investigated investigates investigator investigators invoices involved involves inwards islam issuance
    iterated iterations iterative justifications karen kennel kernels kidneys kinney laboratory laddered laden lagers
    lament lamented laments lamers lanes languages lapel lapels lapsed lapses larger larges largo lased lases latest
    latex lathered laurence lawyer lawyers layettes layovers laypersons leading leafing leakages leaking leaned
    leanings leann leaping learner learners learns learnt leary lease leasing leaved leaven leavened leaves leaving
    leavings legalization legalize legion legions legit lemuel lerner lesbians lesson lessons levee levelled levels
    lexicons libel libeled libelled libeller libels liefer liens lifer lights lightweights liker likes limber limes
    lineally lined linen linens liners links lints linus lipreading liter literary littler littlest lived lively liven
    livers livery llama loaning locale locality localized localizes locals locking locks lookalike lookalikes looming
    looms loons looping loops loosed loosen looser looses loosing looting loots loser louse lover loyal loyalist lucia
    lucio lurid lymphomas lymphomata macaulay machined machinery machines macing macroscopic madeline magnetos
    maidenly makings malarial malaysia mamas mambo mamma mammon manipulating manipulations manipulative manipulator
    manly mappings marching mares margie marginal marin maris marked marlin marlins marrows martians martin martinis
    martins marts marvin mashed mashing masks massed masses master matching mather mating matricides matrixes matte
    matted mattel mattered matters mattes maxing mayas meaner meaningfully meanings measure measurements measures
    medal medial medic medicaid medically medicals medici medicinal medicines medics medieval meier melanomas
    melanomata membranes memories menacing menhaden mennen mentoring messes messing meteoric methadon metrical
    mexicali mexico microcode microscopes miking miltonic mimeograph mimeographs mimics miner minima minimally
    minimization miscuing misdoing mishap missed missiles missions missives missteps mistake mistakenly mistakes
    mistaking misting misuses misusing mittens moaning mobility modeled modelled modelling modem modems modes modestly
    modulate modulates module modules modulo moistly molecule molecules monterey month montreal monty mopping moral
    moralities morality moralize moralizes morrow mortality mortices moselle mosses motel motels motility motioned
    motions motoring moussing muenster mufti multiplayer multiplex multiplexes multiplied multiplier multipliers
    multiplies multiply multitasks murks murrow muscular mussed mussel mussing mutter naked names naturally naturals
    nearness neatest necessity needles needless needy negate negation neighbored neighboring neighborly neighbors
    nerds nerved nerves nervy netbooks networked neurologists neuroses neutral neutrals neutron nevis nexus noised
    noises noisy noose norma normalcy normally norman noshing notations notching nothings noticing notifies noting
    notwork notworks nowise nucleic numbed numbered numbers nursed nurses oases objected observational observations
    occasion occlusions occlusive ocher operated operates operations operative operators opinions optically optima
    optimal optioned oracles orations organics organism organisms organists otter otters outlined outlines outlive
    outlived outlives outlying outposts outrider outsider outsiders outsides outsize outsized outsizes outweigh
    outweighed ovations overacting overawing overeating overlaid overlain overland overlaps overlay overlaying
    overlays overload overplay overrating paces packaged packages pacts pagers paginating pails pained paining pains
    paint paintings paints palace palaces palate palates palatial palpates pamirs pampers panaceas pancreases pandas
    panorama panoramas panting pants panza papery paradise paradises parasitic parch parches parcs pared parentage
    parenting pares parks parred parsifal parson partially partials particle particularly particulars particulate
    partisan partitioned partitions partizan parturition party passable passably passe passed passel passenger passer
    passes pastern pasterns pastiches pasts pastures patched patchier patchy patent patented patenting patents
    paterson pates pathological patience patienter patiently patter pattered pattering patters patterson paunches
    paupers payers payments peace peaces pearson pecos pelicans penalize penalized penalizes peopled peoples peopling
    percentages percentile percussion perforce performances performed performer performs perimeter perimeters
    peripherals periphery permanence permanent permeate permed permit permutations peron peroxide perpetual persians
    persona personae personal persons persuasion pertained perturbations perusing pestilence pestilent pests peterson
    petition petty phage phages phantasm phantoms phased phobos phonograph phonographs photographers photoing phrased
    physical physicals physicist physicists pictograph pictographs pictured pilate pilates pints pipelines pipers
    pipit pitch pitchers pitches placebos placed placer placers plackets plaice plaid plains plaint plait plaiting
    planters plasters plateaus plated platen platens plath plato platte plausibly pleas pleased pleases pleasure
    plunging plunking pluto pocks podia pointers pointier pointy poled poling polished polled polling polygamy ponds
    pooching poohed poohing poole pooped pooping popsicle portions porto ports position positions possibles postdate
    posteriors posterity postpones postures prancing prate prates prawning precedence precinct precincts precising
    preclusion predated predating predator predicated predicating predication predilection predilections preempting
    preening preferable preferences prelates prematurely premiers preordained preparation prescient presence
    presentation presented presenter presently presents preservative preset president preterit prettify prettily
    prevent prevents priceline primping print prints prism prisms probable probables probed probes problems procedural
    procures prodding produced producer producers produces product profanation profaned profanely profanes proffers
    profiting profound profusion prognoses prognostic prognostics programed programer programers programme programmed
    programmers programmes progressing progression progressively progressives projected projectile projectiles
    projecting projectionist projectors projects prolixity promising promo promoting prompter promptings prone pronto
    propagating propane propel property proposal propose proposed proposer proposes propound proprietor proprietors
    propriety prorating prose prosecution prosecutions prospect prosper prospers prostates prostrate prostrated
    prostrates prosy protect protection protections protects protocols prototyping protozoon provable provably prove
    provided provident provider providers provides province proving provision provo public publican publicly publisher
    publishers publishes pulsates puncture punctures punished putsches quack qualification qualify qualitative quanta
    quantity quantum quelled quells questing questioned questioner questioners quirk raced racking radcliff radiance
    radio radiogram radiograms rafted raged railings raked raking rally ramos ranching randomize randomizes randomly
    randoms ranging rankin rankine rankling ransom ranted ranting raped rapider rapidest rapine rapports rared rasher
    rates ration rational rationalism rationalist rationalize rationalizes rationally rationals ratios ratted raved
    razed reaching reaction readings readying reales realist realists realty reaming reaping rearing reasonably
    reasoned reasoner rebated recant recanted recasting receding recenter recently recession reciprocal reciprocals
    reciprocate reckoning recommenced recommences recommends recompensed reconstructing reconstructions recreant
    recruiting recumbent recuperation recurrence recurring redding redefine redress reductions reeducation reelection
    reelections referenced references referenda referent refile refined refiner refiners refinery refines reflecting
    reflective reflector reflectors reforming refraction refrain refraining refrains refugee refugees refuges refuse
    refute refuting regales regally regard regarded regards regimens regina reginald register registers registrar
    registrations registry regressed regresses regressing regressions regressive regret regrets regularly regulars
    regulates regulation regulations reheated reilly rejections relapsed relate relates relation relatively relatives
    relaxed relaxing relay relayed relaying released relegated relent relented relevancy relevantly reliable religion
    religions reloaded reloading relocated remaining remaking remarking renaming rending rends rennet renting reorging
    repaired repaying repeated repeating repent repenting replaced replayed repleted repleting repletion reported
    reporter reporters reposing represent representational representations representative represented represents
    repress repression repressions reprinting reprising reproving requite requited requiting rereading rerouting
    rerunning resale rescuing researched researches resenting reset resetting resisting resistor resolutions
    resonances resonant resonate resort resorting resorts respectability respired restated restating restoring
    restrain restraining restrains restraint resulted resulting resuming resurgent resurrect retailing retain
    retaining retaking retarded retarding reticent retort retorting retorts retracting retrained retrains retrievable
    retrievals retrieve retrieved retriever retrieves retrying returned returnee returns reunions reuniting revelers
    reverence reverenced reverences reversion reverting reviewed revilers revolting revolution revolutions rewarded
    rewarding rewiring reworking riesling riles riposting roasting robots robuster robustest robustly roentgens roles
    roosting roseau rounding rubes rubles ruining ruled ruler rulers runes ruses rusting rustling sable saddling sades
    saint sales salinity sallower sallowest sambaing sampled sampler samplers samplings sanatoria sanctity sanger
    sanguine sanitarium santa santeria sapience sapling saplings sapping sates satin satisfactions saturation saute
    savaging scabs scads scags scala scald scalds scaled scaliest scalp scalpels scalping scalps scaly scammers
    scampers scampies scams scant scanted scanter scantier scants scarceness scarcity scared scars scats scatters
    scatting scenting scimitar scone scope scoped scopes scorched scorches scorecard scorers scorn scorned scorns
    scorsese scots scoured scourged scourges scouring scowling scrapping screaming screeching screenings screwing
    seagoing searched searcher searches sears seating seconded secondly seconds secular securing security sedating
    sediment sedimentation seductive segmented segments selecting selection semen semester semesters semiotics
    semitics sensed senses sensibility sensitively sentenced sentience sequenced sequencer sequencers serenest
    serenity servings settling sevens sever severally severing severn sexting shade shadowed shadowier shadowy shaft
    shafted shafting shagging shake shallows shambles shambling shame shane shaped shapely shapes shard shari shark
    sharping sharps shave shawn shear shears shiftily shifts shifty shill shilling shimming shinbone shine shingle
    shingled shingles shinning shirking shirring shirt shirted shirting shitting shoaling shocking shoeing shooing
    shoon shootout shootouts shore shored shores shoring shorn shortest shots shoulder shoving shower showering
    showiest showings showy shrift shunting shysters sicker sided sidewise siding sidles sifted sifting signaled
    signally signals signet significant simile simplify simulates simulating simulations simulator singe singled
    singles singly sitting sittings situating situations skate skidding skills skipping skirting skull slain slanders
    slapdash slapping slate sledding sledging sleeting sliced slicer slicers slicing slick slickers slickest slicking
    slicks slider sliders slimming slinging slinking slopping slots slotting slowed slowing slowness sluice sluices
    sluicing smalls smart smell smelting smites smoked smoker smokes smokey smoky smooch smoothing smooths smote
    smuggest snagging snapping snide sniffing snipping snore snored snores snots snowiest snowing snuggest soggiest
    solidest solvency someones somethings sondra sonia sonja sonya sooth soothing sores sower sowing spaced spaces
    spacey spacial spacious spackle spacy spade spain spake spaniard spanned spanner spanners spans spareness spares
    spars sparser sparsest spatially spats spatting spear spears specifics specified specifier specifies specious
    speck speckled speckles specs speculate speculator speeds speedy speer spelt spend spent spewed spices spied spike
    spill spines spinet spinners spins spinx spiny spire spite spited spites spits splice splicers splices splicing
    spline spoke spore spored spores sports spotting spouts sprained spreed spreeing spuriously squalled square
    squarely squarer squares squarest squashed squatted squawked squeaked squealed squinted squired squirmed stabbing
    stabilize stabilized stabilizer stabilizes stabled stabler stables stablest stabling stacking staffing staffs
    stage stagings staid staining stair stairs stake staking stales stalin staling stalking stall stalling standardize
    standardizes standards standing stanford staple starch stare staring starlight starling starring starting starving
    stashing stated staten stater states stating stationed stations stats statue stave staving staying steadies
    stealing steaming steel steep steer stein steins stenographer stenographers stenography stepping sterility steven
    sties stiff stiffing stifling stile stimulation stine stinging stint stinting stipulation stoke stokes stole
    stoles stomached stomachs stone stoned stoner stoners stoney stoniest stopping store stored stoves stowing
    strafing straighten straighter straights strain strained strainer strains strapping strawing straying striated
    stricture strictures strident striding stringed structurally structured students studied studios studlier
    studliest studly studs stuff sturdier sturdiest sturdy sturgeon sturgeons styli subjected submersion submissions
    submissive substitute substituting substitutions subtitle subtler subtlest subtlety subtly subverts succored
    sufficient sufficiently sugaring suggested suggester suggesting suggestive suggests suitability suitably suite
    sulfides sulfuring summations superb supermodel supermodels supers supersized supervened supervise supervises
    supervisor supine supper supported supporter supports surer surgically surrogates survivals survived survives
    survivor suspects sustained sustains swabbing swain swains swamping swanking swans swarming swashing swathing
    swear swears sweating sweeping swill swing switcher swooping swopping swore symmetrical symmetricly symmetries
    symmetry synapse synopses synopsis synthesizes synthetic synthetics systemic systemics tabulate tabulator tacking
    tackling tacks tailor tainting takings talking talks tames taming tamps tanking taping taring tarrying tasking
    tatar tatter tatty taunting taupe taxing teams teats technical teems tempe temperas tempi temporally temporary
    tempos tempt tempts tendril tendrils tenet tents terns testes testis testy texted textural textured textures
    thanking thickeners thickens thickest thickets thicknesses thinness thins thongs thorax thorough thoughts thrace
    thracian threefold threshed thresholds thrust thunks thyroids tides tikes tiles timed timer timers timex timor
    tines tings tirade tirades tires tissues toked tokes toking tolerable tolerances tolerant tolerate tomes toned
    toner toning toolboxes topographic topographies topography torah torrance tortes totality totalled totes tough
    touted touts towed towel towers toying tracers tracery tracing tracings tracker trackers traction tracts trade
    trader trail trailed trailing trainee trainees trainer trainers trains traipsed traipsing trajectory tramming
    tramping trance tranquil transaction transferals transfers transformed transforms transient transition translating
    translations translator translucence translucent transmit transmits transponder transport transported transporters
    transports trapping trashing traverse traversed traverses trawling triads trialing triangle trice trickiness truce
    truest truing trunking truss trustful trustfulness trusts trusty truthfully tryst trysting tubed tuberculous
    tubing tubular tudor tuner tunes turing turned turning tusks tutor twain tweaking tying typography ultras
    ultrasounds uncertainly underhand underlain understandably understandingly understandings understands understate
    understated understating understood understudy undulated unfaithfully unfits unitas unite unites unity unreadable
    unregulated unreleased unseated unseen unspecific unsure untreated unusually uptakes useability usefully ushers
    utilizes vacation vague vales validated validates validation valuation valued valve valves vanillas vapidity
    variations variously vectored vegan verbally verbals verily verity vernal verses versify vessel vicarious victor
    victors vireo vireos virtually visioned visions visit visualized visualizes visually vitalize vitalizing vitiation
    vivid vowel vowels wafted waite waited waiting waned wanked wantoned warden wards wasted weigh weighed weighs
    weightier weighty welch welching welcomes welshes welshmen wenches weyden whale whatsoever whenever wheres whine
    whitefield whiten whitener whiter whites whither whiting whitings whits whittling wholes wideness widening widow
    widows wifely wight wights windowed windsors wingless winnow winnows wirelesses wiriness wisely witching wonted
    woods woolen wooten wording wordings wordy workings world worlds worming worms worrying worsen woulds wound
    wrenches wresting wretches wright wring wringing writhing writings wrongs wrung
"""

LOOKALIKES = frozenset(_WORDS.split())
