"""Ordinary English words that look like a misspelt name of the domain and are not one.

"Attentive" is no typo of "attention". Written by docs/lookalikes.py from the word list SCOWL; not edited by hand.
"""

_WORDS = """
    abdomens abides ablative ablution ablutions abode abolition abortion abound abrasion absences absented absentee
    abstention abstract academia academical academies accessed accesses accorded accords accurate achieved achiever
    achievers achieves acoustical acoustics acquisitions acquisitive actinium activating actuality adapting added
    adders addicting addictive addition additives admiration adoptive adulation adversaries adversary adversely
    adverser adversest adverted advertise adware aerate aerating affair agencies aggregate aggregated aggregates
    aggregation agreements aground aides ailed aimed aired alder aldermen alders alger algorithmic alibis alice
    alienation alignments aline alinement alive allays aloha alphas altar alternate alternates alternating alternation
    alternations alternatively alters altos ambiences amperage analogies analogous analogue analysts analytic analyzed
    analyzer analyzers analyzes anatolia anatolian anatomic anatomically anatomies anatomist anchored andean andersen
    andes andres angers annexation annexations annotating annually answered antagonisms antagonist antagonistic
    antagonists antagonizes anteroom anther antibody antone anythings aorta applications applicator approached
    appropriated appropriately appropriates approximating approximations apter arbitrarily arbitrate archetype
    archetypes archetypical architecturally architectures arenas argumentation arias aromatic artifice artifices
    artificially ascot ashing aside aspirant aspirants aspirated aspirating aspirations assailable assay assented
    asserted asses assesses assessments assessor assets assigned assignment associating associations associative
    assorted aster asthmatic asuncion asymmetric atari attained attentions attentive attenuating attestation
    attributed atypical audio audios audition auditions auditorium auditory augmentations authoring autocrat
    autocratic autograph automate automates automaton automatons autos averaged averages averse aviation avoidable
    awaiting awake award axiomatic baaed babblers babbles backbite backboard backbones backdrop backdrops backer
    backgrounds backhand backstop backwards backwash backyard backyards badinage bakelite balanced balances balder
    baled balinese balked ballasts banal banked bared barked barnett barrette barrettes bartlett basalt baselines
    baser bashed basic basics basie basin basins basks bassi basted bastes batched bated bathes batter battle bayed
    beach beard beasts beaten beats beauties beauty became becomes beech beelines befuddle beholden beholder belch
    benchmarks benignly benin berenice besets besought bessel bessemer bestir bests bette betted bettered betters
    bettor bewilder biassed bicameral bidder bight bilaterally binder bitch bitches bitching bitter blacked blacks
    blacktop blanca blanch blank blanks blase blasters blench blending blest blight blinders blindest blinding blinds
    blinkers blinks blintzes blips block blond bloodies bloods bloody bloom blotches blunting blurring blurting
    boarding boards boars boast boasts boats bobbles bodices bogies boinking bolder boles bondage bonding bondsman
    bones bores botch botches bottled bottlenecks bottles bough boughs bouncing bowed bowell bowels bowen bower boxed
    boxen boxer boxers bracts brads brags braid brains brainy braise branched branding brass brawn brays breaches
    breakers breakups breasted breasts breathes brest brewster brian brighten brighter brightly brighton britches
    brits brood brought bruin brunt bubble bubbled bubblier bubbliest bucked budge budged budges budgeted budgets
    build builder builders building bulletin bumblers bumbles bunch bundling burbles burdened buried burner burns
    burped burred burst bused buster butch butchers butches butter bylines cabernet cabinet cabinets cabled cadenza
    cadenzas cafes cages cakes calibers calibrate calibrates calibrating calibrations calibrator caliper calipered
    calked caller calliper callipers calls callused calmed calved camber cambered cambrian cameras cameroon camps
    campsite campsites campus camry canadian cancel cancers canes canker cannon canter canto canvased capability
    caparison capetian capping capsizes capsuled captaining captioned captions captious captures carcinomas
    carcinomata cardenas cardigan cardinal cardiology caret carets carey cargo caribous caries carla carlos carnation
    carnot carol carolled carotids carousal carted cartel cartels carter cartoon cartooned cartooning cartoons carts
    caryatid cascaded cascades cased casey cashes caste castor casual categories categorized categorizes cation caudal
    causality causally causes caution cautioning cautions cautious caves cavilled cease ceases celebrate celebrated
    celebration celli cello cellos cellulose celts censures censused center centers centimes centrals centuries
    cerebra cerebrum certainly certainties certainty certificating certifications cervices cervixes chained chains
    chaise chalices chalking challenged challenger challengers challenges chambers chameleon chance chancel chancels
    chances chandler chanel chang channeled chanter chanties chapping characteristic charge charger charges charlene
    charters charting chartres chase chases chats chattels chatting cheapen cheapness cheater checker checkered
    checkering checklists checkpoints checkups cheek cheeked cheeking cheeks cheep cheer chess chestnut chewer
    chewiest chick chicks chiefer chinking chipping chips chock chocked chocking chocks choicer choices choicest
    chooses choosey choosy chopping chortles chose chuck chucked chucking chuckled chuckling chucks cinch
    circumferences citation clacking claim claire clamber clambers clams clans clappers clapping clara clarification
    clarified clarifies clarifying clark clasps classics classier classifications classifieds classing classy
    clattered clattering clatters claus claws cleanest cleaning cleanser clearest clearing cleat cleats cleaver
    cleavers cleaving clerking cleverer cleverly cliched cliches clicking climates climaxes clinched clincher clinches
    clippers clipping clipt clits cloche clocking cloistered cloistering cloisters clopping clops close closeout
    closes closet closets cloudiest clouting clover clucking clumping clunkers clunking cluster clutches cluttered
    cluttering clutters coach coaches coarsely coarsen coarsens coarsest coasters coasting coefficients coffined
    cognition coherent coinages coincide coincidence coincident colin collages collared collaring colleges collision
    collusion colons colony colors combating combine combines comity commence commend commends commented comments
    commercial commercially commercials committal committed committees commonest commute commuted commuter commuters
    compacter compactest compacting companion comparably comparisons compassed compassing compassion compatible
    compatibles competed competent competes competing compiling complaisance completes completest completion
    complexities compliant complicity complying components comporting composer compositor compositors composts
    composure compotes compounded compounding compress computation computationally computations computers computing
    concedes conceit conceits conceive conception conceptions conceptually concerns concert concerto concertos
    concerts concession conches conchs concisely conciser concisest concocts condiment conditionally conditionals
    conditioned conditioner conditions conduced conductivity confessed confesses confession confidant confidantes
    confidences confidential confiding confluence confluent conforming conformist conformists confound confounds
    confreres confucian confuse confusedly confuser confusers confuses confusing confusions confuted confutes congeals
    congests conjured conjuring connective connectives connector connectors connivance conniver connoted connoting
    consent conservation conservatism conservatives considered considers consistent consistently consolation constance
    constants consuelo consultancy consulting consumed consumer contented contents contexts contextual contiguity
    continence continua continue continuing contorted contorting contract contractile contracts contractual contralto
    contrarily contrasted contrasting contrasts contribute contributed contributing contrition controller controllers
    contused contuses contusing contusion contusions convened convenes convenience convents convergences convergent
    convert convict convince convocation convoluted convolutions convulsed convulsion coopered coopering copes copping
    corduroy cores corine corollary coronado coroners coronets correctest correction corrections correctly correlate
    correlating correlative correlatives corrugation corrugations corruptness corteges corteses cortex cortexes cortez
    cortices cosigned cosigner cotes cottoned cottons couch couched couching coughing coulter counsels counters county
    couple couples coups coursed courses coursing court courted courtesy courtier courting courts coveting cracking
    craftier crafts crafty crapping crasser crate crated cratered crates creaming creasing creating creations creative
    cremating cremation cremations cress crest cresting cricking criminal criterion criterions criticize criticizes
    critics critique critiques critters croatian cropping crops crotches crouched crouches crows cruft crufted
    crunches crusting crutches culled culls cunts cures curie curies curios curiously currant currants currents curry
    curses curtain curtained curtains curved curviest curvy cynically dados dales daley daring darkened darkness dates
    deanna debiting debugged debuggers debugs debunking debut debuting decades decaying deceived deceives deceiving
    deceptions decibels decidedly decisive declination declined declines declining decode decoding decoying decrying
    decryption deducted deducting deduction deductions deere defaulted defaulter defaults defeated defeating defecate
    defecated defecating defecation defect defected defecting defection defections defector defectors defects
    deference defiling defining deflation deflected deflecting deflections deflector deflectors deflects defogger
    degree deice deices deign deject dejected dejecting dejection dejects delegation deletions delia deliberate
    deliberating deliberation deliberations delicate delineated delineates delinting della deltas deluding deluging
    delusions demented demotion dendrite denial denoting denseness denser densities dentistry denuding dependance
    dependencies dependency dependent dependents depicted depicting depiction depictions deplaned depleted depletion
    deplored deplores deploys deposing deputation deputies derail derided derides deriding derision deriving derogate
    described describes descried descries descriptive descriptor descriptors deserted deserter deserting desertions
    designed designer designs desiring despising detached detaching detailed details detain detective detente detentes
    detention detentions deterred deterring detest detested detesting detests detracted detracting detraction
    detractor detractors detracts developed development develops deviance deviates deviling devise devises devotion
    diabetes diabolic diagnosed diagnoses diagnostics dialectic diana diann dianne diereses diesels dieter dietetic
    diffed differences differentiated differentiates differently differing differs diffidence diffident diffused
    diffusely diffuses diffusing digestion digestions digitalis digitally digitize digitizes dilation dimensions
    dinner dioceses directed directer directional directive directives disagreed disagreements disagrees discriminate
    discriminating discrimination diseased diseases disentangle disentangles dispense dispenses dispersal dispersed
    disperses dispersion displease disposable dissected dissecting dissections dissects dissent dissents disses
    distanced distances distension distillations distinct distorting distortions diuretic diverge diverged diverges
    divers diversify diverted dividing divisions dniester doctorate doctored doctoring domains donned dovetail downer
    draftier drafts drafty dragging draining drawling dries drift drifting drive dropouts drugging duding duffer
    dunner duping earliest easiness easter edict edicts edifying edith editions educates effecting effectively
    efficiency efficiently ejecting ejections elective electors electric electrode electronic electronics electrons
    elemental elements eleventh elimination eliminations elision elopement embodying embryos emending emergence
    emergent eminence emits emitting emphases emulates emulsions enact enchanted encode encoded encodes endorser
    endorsers enema enfeeble enfeebles engender engineered englisher englishes engraves enhance enhancements enhancer
    enhances enmities entailed entangle entanglements entangles ententes enticement entitled entitlement entitles
    entranced envision epidemic epsilons equine equipage equipped equities equivocates erection erections erica errol
    esophagi esophaguses essayed esther estimable estimated estimating estimations estimators ether ethic ethnics
    euphrates evacuate evacuated evacuates evacuating evacuation evacuations evaluates evaluations evens events evert
    evicting eviction evidenced evidences evolution exacts exaggerating exaggerations exalt examines exampled
    exasperation excavation excepted excerpts excision excitable exciting exclaimed exclaiming exclaims exclamation
    exclamations exclamatory excusable execrable executed execution exemplary exempted exert exertion exerts existed
    existent existing exists exiting exits expedience expediences expediency expedited expelled expended experienced
    experiences expiated expiates explicating explode exploded explodes exploitation exploited exploiter exploiters
    exploiting exploits exploratory explored explorer explorers explores export exporter exports extended external
    extremely extremer extremes extrication exultation fabled fables faceting facings faction factional factored
    factorial factories factorize factory fading fainer faintest fairs faithfully faithfuls faking fallacies
    fallacious fallowing falser familial familiar familiars famishes fancying faring farther farthest fasted fasten
    fastener fastness fatal fating fatter fattest fattiest fault faulty faxing fazing feasibly feathers featured fecal
    feedbags feedings feeler feller fending fends feral festal fester fetes fiber fictional fictions fiddling fielding
    fields fiend fiendish fighting figured figurine figurines files filler fillings fills filly filmy filtered filters
    filthier finagles finality finds fined finery fines finger fining finis finished finisher finishes finking finnish
    firms fissures fitter fittingly fittings fiver fixable fixating fixer flail flailed flails flairs flamenco flames
    flaming flamingoes flamingos flamings flapping flaps flashest flattest flatting flicking flies flippant flippies
    flits flitting flopping flops fluids fluoresce fluoresced fluoresces fluorescing fluoroscope fluoroscopes focusses
    foetal foetus foiled foils foisting folds followings folly fonder fondle fondling fondue fonts foods foots force
    fords forewarn foreword forge formal format formation formed former forte forwarded forwarder forwards foster
    foully foundations founding founds fracases fracking fractions fractious fracture fragment frame framed framer
    framers frameworks franchise francis francois francoise franglais fraser fretting friable friction friended
    friending frigidly fringing fronde fronds frontage froths froze fruition fulls fumed functionary funding fundy
    fungus furthered furthers furthest fuses fusions fussed fusses fustiest futon fuzed gaged gages gains gales
    gallbladders gamed games gaped gapes garaging gases gazed gazes gazetting geminis generalities generality
    generally generals generations generators generics genetic genetics gentling gestating gestured gestures gibing
    gigapixels glade glads gland glassy glided globally globule gloss glutting goaded goading grabbing grace graced
    gracing gradations graduation graduations grafting grafts grail grainy grands grant granting graphed grapples
    grasping grass grassing grate grates grating grave graved graving grayed graying graze grazed grazing greasing
    greed greek greene greens greer greet greeting grieving grind grins gritting groin groins grouched grouching
    grounder grounders groundhog groundings grounds groupers groupies grouping grousing grout grouting grouts grownups
    grudging grunting guarding guesting guide guides gutting gynecologists gynecology gyrating haemorrhaged haling
    halving haman handcraft handcrafts handed handled handler handlers handles hands handy happened happens hardback
    hardtack hares haring hassling hasten hasting hastings hatching hating hatted hatter hawing haying hazing
    healthily hears hearst hearts hearty heath heaving heist heists helen helpfully hematologists hemorrhaged hides
    hierarchically highlighted highlighter highlighters hikes hines hippos hippy hired hives hiving homer hoover horus
    hospitable hospitably hospitals hovel hovers howsoever huffman humane humans hushing hybrids identify ignored
    ignores imaged imagine imagines imagining immediate immensity immersion immunity impaling implausibly importantly
    importing importunes impotence impotent imprinting impunity impurely inaction inattention inboards inceptions
    incisive inciting inclining inclosing included includes incoherently inconsistent inconsistently increased
    increases incursion indecently independently independents indicated indication indicators indict indicted indicts
    indies individually individuals indorses induce induces ineptitude infant infantry infarction infecting infections
    infectious infer inference inferential infernal infertile infidels infiltration infirm inflames inflation
    inflection inflections infliction influenced influences influencing influentially influenza informal informational
    informative informed informer informers informs infractions ingenious ingenuity inhere inheriting injection
    injections injector injectors insanely insentience inserting insertions insider insiders insight insights insignes
    inspected inspections inspects inspires instalment instalments instanced instancing instantaneous instants
    instincts instrumentals insurance insurances integers integrate integrates integrating integrity intel intelligent
    intensely intensest intensify intensive intentional intentions intents interacts interbred intercept intercepted
    interests interj interject interjected interjection interment intern internal internally internee internees
    internist interpretative interpreter interpreters interpretive interprets interrelation interrelations inters
    intersect intersected intersecting intersections intertwine interval intervals interventions intonation intruding
    intrusted intuitions intuitive invariable invariant invention inventions inventor inversely inverses inversions
    inverted investigate investigated investigates investigation investigations investigator investigators inviting
    invoices involved involves inwards islam issuance issued iterated iterations iterative justifications karen kennel
    kernels kidneys kinney kipper labeling laboratory laces laddered laden lades lagers lagos lakes lamas lambs lamed
    lament lamented laments lamest laminate laminates lamps landmarks landmass landward languages lapel lapels lapsed
    lapses laptops larger larges largo lased lateraled laterally laterals lateran latest latex lathered laurence
    lawyer lawyers layettes layovers laypersons laywoman laywomen lazes leading leafiest leafing leafless leafleted
    leaflets leakages leaking leaned leanings leann leaping learner learners learns learnt leary lease leasing leaved
    leaven leavened leaves leaving leavings lectures legalization legalize legalizing legendary legendre legion
    legions lemuel lerner lesbians lesson lessons lettered letters lettuces levee levelled levelling levels levitt
    levity lexicons libel libeled libeling libelled libeller libelling libels liefer liege lieges liens lifer lights
    lightweights liker likes limber lineally lined linen linens liners links linnet lints linus lipreading liquids
    liter literal literals literary littler littlest lived lively liven livermore livers livery llama llanos loaning
    locale locality localized localizes locals locking locks logos longs looming looms loons looping loops loosed
    loosen looser looses loosing looting loots loser louse lover loyal loyalist lucia lucio lumber lunacies lunge
    lunges lurid lyman lymphomas lymphomata machined machinery machines macing macro macroscopic madeline magnetos
    maidenly makings malarial malaysia males malignancy malignantly maligning mamas mambos mammas mammon mammoths
    manipulating manipulations manipulative manipulator manly manorial manuring mappings marbling march marched
    marcher marchers marches marciano marcie mares margie marginal maria marin maris marked marketing markings marlin
    marlins marquise marriage marring marrows marrying martians martin martinis martins marts marvin mashed mashing
    masks massed masses master masters matching materially materials materiel maternal mather mating matricides
    matrixes matte matted mattel mattered mattes matthews mattress maturing maura maximally maximums maxing mayas
    mayra meaner meaningfully meanings measurements medal medial medias medicaids medically medicares medicates medici
    medicinal medicines medieval medina meier melanges melanomata membranes memories menacing menhaden menially mennen
    mentoring mercado messed messiaen messing meteoric methadon metrical mexicali mexicans mexico micra microcode
    micron miking miles millet milne miltonic mimeographs mimics miner minim minimization minims minimums minuet
    minuets minuses minuted minutely minuter minutest minutiae mirage miscuing misdoing mishap missed missiles
    missions missives missteps mistake mistakenly mistakes mistaking misting misuses misusing mittens moaning mobility
    modeled modelled modelling modest modestly modified modifiers modifies modulate modulates module modules modulo
    moira moistly molds molecule molecules molest molls molts monessen month monty mopping moral moralities morality
    moralize moralizes morrow mortality mortices moselle mosses motel motels motility motioned motions motoring
    moussing muenster mufti mules multiplayer multiplex multiplexes multiplied multiplier multipliers multiplies
    multiply multitasks murks murrow muscular mussed mussel mussing mutter mutters myles naked names narrowed narrower
    narrowly narrows nasals natal naturally naturals nature natures naval navel nearness neatest necessaries necessary
    needles needless needy negate negation negations negative negatived negatively neighbored neighboring neighborly
    nerds nerved nerves nervy netbooks networked neurology neuroses neurosurgery neutral neutrals neutron nevis
    newbies nexus nigel noised noises noisy noose norma normalcy normally norman noses noshing notations notching
    notes nothings noticing noting notwork notworks novel nowise noyes nucleic nudes numbed numbered numbers nursed
    oases objected obscener observational observations obstetrics occasion occlusions occlusive ocher office officers
    offices oftener oncology operated operates operational operations operatives operators optically optima optimal
    optimism optimist optimum optimums optioned oracles orations organics organize orthopaedic orthopaedics
    orthopaedists orthopedist orthopedists otter otters outlined outlines outlive outlived outlives outlying outposts
    outrider outsider outsiders outsides outsize outsized outsizes outweigh outweighed ovations overacting overactive
    overalls overawing overeating overeats overjoys overlaying overlies overloads overly overpass overpay overpays
    overplay overplays overrating overstay overstays paces packaged packages pacts pagers paginating pails pained
    paining pains paint paintings paints palace palaces palate palates palatial palpates pamirs pampers panaceas
    pancreases pandas panning panorama panoramas pantie panting pants panza papery paradise paradises parasitic parch
    parches parcs pared parentage parenting pares parks parred parse parsifal parson parted partially partials
    particularly particulars particulate partied parties partisan partitioned partitions partizan parturition passable
    passably passe passed passel passenger passer passes paste pastern pasterns pastiches pastie pasts pastures
    patched patchy patent patented patents paterson pates pathogen pathological patience patienter patientest
    patiently patter pattered pattering patters patterson paunches paupers payers payments peace peaces pearson pecos
    pelicans pelvis penalize penalized penalizes peopled peoples peopling percentages percentile percussion perforce
    performances performed performer performs perimeter perimeters peripherals periphery permanence permanent permeate
    permed permit permutations peron peroxide perpetual persians personable personae personage personally personals
    persons persuasion pertained perturbations perusing pestilence pestilent pests peter peterson petition phage
    phages phantasm phantoms phased phobos phonograph phonographs photographers photoing phrased physical physicals
    physicist physicists pictograph pictographs pictured pigments pilate pilates pinpointed pinpoints pints pipelines
    pipers pipit pitch pitchers pitches placards placebos placed placer placers plackets plaguing plaice plaid plains
    plaint plait planet planing planking plannings planters planting plantings plasters plateaus plated platen platens
    plath plato platte plausibly plaza plazas pleas pleased pleases pleasure plonking pluto pocks podia pointers
    pointier pointy polaroid poled poling polio polios polished politicos politics polled polling polygamy polymers
    ponds pooches pooching poohed poohing poole pooped pooping porches portions porto portrait ports position
    positions positive positively possibles postdate posteriors posterity postpones postures prates preaches
    precedence precinct precincts precious precising preclusion predated predating predator predicated predicating
    predication predicative predilection predilections preempting preening prefaces preferable preferences prelates
    prematurely premiers preordained preparation prescient presence presences presentation presented presently
    presents preservative preserver preset president pretender preterit prettify prettily prevent prevented prevents
    previews previously priceline primping print printout printouts prints priors priory prism prisms probable
    probables probates probed probes procedural proceeds processional processionals prodding produced producer
    producers produces product productive profanation profaned profanely profession professionalism professionally
    professions proffers profiles profiting profound profusion prognoses prognostic prognostics programed programer
    programers programme programmed programmes progressing progression progressively progressives projected projectile
    projectiles projecting projectionist projectors projects prolixity prominence promised promises promising promo
    promoting prompter promptings prone pronto propagating propane propel propertied property prophesy prophets
    proposal propose proposed proposer proposes propound proprietaries proprietor proprietors propriety prorates
    prorating prose prosecution prosecutions prospect prosper prospers prostates prostrate prostrated prostrates prosy
    protect protection protections protector protocols prototyping protozoa protozoon provable provably prove provided
    provident provider providers provides province proving provision provo pryor pubic publisher publishers publishes
    pulmonary pulsates puncture punctures punished putsches quack qualification qualify qualitative qualitatively
    quanta quantity quantum quelled quells questing questioned questioner questioners quezon quire quirk quivered
    raced racking radcliff radiance radii radiograms radios rafted raged railings raisins raked raking rally ramos
    ramparts ranching randomize randomizes randomly randoms ranging rankin rankine rankling ransom ranted ranting
    raped rapider rapidest rapine rared rasher rates ration rational rationalism rationalist rationalize rationalizes
    rationally rationals ratios ratted raved razed reaching reaction reactions readable reader readings readying
    reales realist realists realizable realty reamers reaming reapers reaping rearing reasonably reasoned reasoner
    rebated recant recanted recasting recenter recently recessing recession reciprocal reciprocals reciprocate
    reckoning recoiling recommenced recommences recommends recompensed reconstructing reconstructions recopying
    recouping recreant recruiting rectums recumbent recuperation recurrence recurrences redding redefine redis redoes
    redress redressing reductions reeds reeducation reelection reelections refereeing referenced references
    referencing referent referential refile refined refiner refiners refinery refines reflecting reflective reflector
    reflectors refrain refraining refrains refreshing refugee refugees refuges refutation refute refuting regales
    regally regard regarded regards regiment regiments regina reginald registered registers registrations registry
    regressed regresses regressions regressive regret regrets regretting regularly regulars regulates regulating
    regulations rehearse reheated reilly reinvest rejections relapsed relate relates relatively relatives relaxed
    relaxing relay relayed relaying released relegated relegates relent relented relevancy relevantly reliably
    relieves relieving religion religions reloaded relocated remaining remaking remarking renaming renders rending
    rends rennet renting reorders repaired repartee repaying repeated repeating repent repenting rephrase replaced
    replayed repleted repletes repleting repletion reportage reported reporter reporters reposes reposing repossess
    represent representational representations representatives represented represents repress repressing repression
    repressions reprieve reprieved reprieves reprieving reprinting reprises reprising reproves reproving repulses
    reputation requite requited requiting rereading reroutes rerouting rerunning resale rescuing researched researches
    resenting reserving reset resetting residence residences residency residuals residues resilient resisted resister
    resisters resisting resolutions resonances resonant resonate resort resorted resorting resorts respectability
    respired response responses restated restating restoring restrain restraining restrains restraint resulted
    resulting resuming resurgent resurrect resurrects retailing retain retaining retaking retardant retarded retarding
    retinues retirees retort retorted retorting retorts retouched retouches retracting retraction retrained retrains
    retrievable retrievals retrieved retriever retrievers retrying returned returnee returns reunions reuniting
    reusable revelation revelers revere reverence reverenced reverences reveres reverie reveries revering reversal
    reversed reverses reversing reversion reverted reviewed reviews revilers revolting revolution revolutions rewarded
    rewarding rewiring rewording reyes rides riesling righting riles ripostes riposting roasting robots robuster
    robustest robustly roentgens roistering roles roosting roseau rounding rubes rubles ruining ruled ruler rulers
    runes ruses rusting rustling sable saddling sades safely saint sales salinity sallower sallowest sambaing sampled
    sampler samplers samplings sanatoria sanction sanctions sanctity sanger sanitariums sanitation santa santeria
    sapience sapling saplings sapping sateen sates satin satisfactions saturation saute savaging savior savor savorier
    savoring scabbing scabs scads scags scala scald scalding scalds scaled scalp scalpels scalps scaly scammers
    scamming scampers scampies scams scant scanted scanter scantier scanting scants scarceness scarcity scared scaring
    scars scathing scats scatters scenario scent scents schnabel sciences scimitar scoffing scolding scooping scooting
    scope scoped scopes scoping scorched scorches scorching scorecard scorers scorn scorned scorning scorns scorsese
    scots scoured scourged scourges scourging scouring scouting scrapping screaming screeching screenings screwing
    scurvier seagoing searched searcher searches sears seating seconded secondly secretion secretions sectional
    sectionals sectioned secular security sedating sedation sediment sedimentation sedition seduction seductions
    seductive segments selecting selections semblances semen semester semesters semiotics semitics sensed senses
    sensibility sensitively sentenced sentience sequenced sequencer sequencers serenest serenity seriously server
    servings sessions settling sevens sever severally severing severn sexting shade shadowed shadowier shadowy shaft
    shafted shafting shagging shake shallows shambles shambling shame shane shaped shapely shapes shard shari shark
    sharping sharps shave shawn sheaf sheen sheep sheets shiftily shifts shifty shill shilling shimming shinbone shine
    shingle shingled shingles shins shirking shirring shirted shirting shitting shoaling shocking shoeing shooing
    shoon shoot shootout shootouts shored shores shortest shorts shots shoulder shout shoving shower showering
    showiest showings showy shrift shunning shunting shysters sicker sided sidewise siding sidles sifted sifting sighs
    signaled signally signals signed signer signers signets significant signpost similarities simile similes simplest
    simplify simulates simulating simulations simulator singe singes singled singles singly sings sitting sittings
    situating situations skate skeet skeletons skidding skills skinning skins skirting skull slain slanders slanting
    slapdash slapping slate sledding sledging sleet sleeting sliced slicer slicers slicing slick slickers slickest
    slicking slicks slider sliders slimming slinging slinking slopping slots slotting slowed slowing slowness sluice
    sluices sluicing smallish smallness smalls smart smartest smell smelliest smelting smites smoked smoker smokes
    smokey smoky smollett smooch smoothing smooths smote smuggest snagging snailing snapping snide sniffing snipping
    snitch snore snored snores snoring snort snorting snots snowiest snowing snuggest sociologist soggiest solidest
    solvency solvent solvents someones somethings sondra sonia sonja sonya sooth soothing sores souvenir sower sowing
    spaced spaces spacey spacial spacious spaciously spackle spacy spade spain spake spaniard spanking spanned spanner
    spanners spanning spans spareness spares spars sparser sparsest spatially spats spatting spears specifics
    specified specifier specifies specious speciously speck speckled speckles specs spectra spectroscope spectroscopes
    spectroscopic spectrum speculate speculator spelt spent spices spike spill spillane spines spinet spinners
    spinning spinx spiny spire spite spited spites spits splice splicers splices splicing spline spoke spooring spore
    spored spores sporing sport sporting sports spotting spouts sprained spraining spreeing squalled square squarely
    squarer squares squarest squashed squatted squawked squeaked squealed squinted squired squirmed stabilize
    stabilized stabilizer stabilizes stabled stabler stables staffs staged stages stagings stags staid staidest stair
    stairs staking stales stalin staling stall standardize standardizes standards standish stanford staple starch
    starfish staring starkest starlight starriest stated staten stater states stating stationed stationing stats
    statue staving staying steadies stealing steaming steed steel steele steep steer stein steins stella stenographer
    stenographers stenographic stenography stepping sterility steven sties stiff stiffing stifling stile stillest
    stimulation stine stinking stint stipples stipulation stitch stoke stokes stole stoles stomached stomachs stone
    stoned stoner stoners stoney stoniest stopping store stored storing storming stoves stowing strafing straighten
    straighter straights strain strained strainer straining strains strait strapping strawing straying striated
    stricture strictures strident striking stringed stringing striping striving structurally structured studied
    studios studiously studlier studliest studly studs stunt sturdier sturdy sturgeon sturgeons styli subjected
    submersion submissions submissive substitute substituting substitutions subtitle subtler subtlest subtlety subtly
    subtracting subtractions subverts succored succoring suction suctions sufficient sufficiently sugaring suggested
    suggester suggesting suggestive suggests suitability suitably suite sulfides sulfuring summations sunset superb
    supermodel supermodels supers supersized supervened supervise supervises supervisor supine supper supplement
    supported supporter supports surer surgically surrogates survivals survive survivor suspected suspects sustained
    sustaining sustains swabbing swain swamping swarming swashing swatch swathing swears sweating sweeping sweet
    swellest swigs swims swines swing swinging swings swirl swiss switched switches swooping swopping swore
    symmetrical symmetricly symmetries symmetry synapse synopses synopsis synthesizes synthetic synthetics systematize
    systemics tabulate tabulator tacking tackling tacks tailor tainting takings tales talking talks tames taming tampa
    tamps tanking taping taring tarrying tartar tasking tatter tatty taunting taupe taxing teams teats technical teems
    teethe tempe temperas tempi temporally temporary tempos tempt tempts tendril tendrils tenet tenor tenser tensors
    tenth tents terns terrains testes testis testy texted textural textured textures thanking theses thespis
    thickeners thickens thickest thickets thicknesses thinness thins thongs thoraces thoraxes thorough thrace thracian
    threefold threshed thresholds thrust thunks thyroids tildes tiled tills tilts timed timer timers timex timor tings
    tirade tirades tissues titles toils toked tokes toking tolerable tolerances tolerant tolerate tolls tomes toned
    toner toning toolboxes toots topographic topographies topography torah torrance tortes totality totalled totes
    tough touted touts towed towel towers toying tracers tracery tracing tracker trackers traction tracts trade trader
    trail trailed trailing trails trainee trainer traipsed traipsing traits trajectory tramming tramp tramping tramps
    trance tranquil trans transaction transacts transepts transferals transfers transformed transforms transient
    transition transits translating translations translator translucence translucent transmissions transmit transoms
    transplanted transplants transponder transport transported transporters transports trapping trashing travails
    traverse traversed traverses trawling treading treating triads trialing triangle trickiness tricking trifling
    trilling trimming tripling tripping troubleshooted troubleshooter troubleshoots troubleshot trouper troupers
    trouser trousers truanted truce trudging truest truing trunking truss trussed trustee trustees trustful
    trustfulness trustier trusties trusts trusty truthfully tryst trysted trysting tubed tuberculous tubing tubular
    tudor tuner tunes turing turned turning tusks tutor twain tweaking twigging twinging tying typography ultras
    uncertainly undecided undefined underhand underlain undersized understandably understandingly understandings
    understands understate understated understating understood understudy undeserved undulated unfaithfully unfits
    unformed uniformed uniformly uniforms uninformed unitas unite unites unity unreadable unregulated unreleased
    unseated unseen unspecific untreated unusually upped uppers uptakes useability usefully ushers utilization
    utilizes vacation vacations vague vales validated validates validations valuations valued valve valves vanillas
    vapidity variously vectored vegan verbalize verbals verbiage verified verifies verily verities verity vernal
    verses versified versifies versify vertebrae vertebral vertebras vertebrate vessel vicarious victor victors vince
    vireo vireos virtually visioned visions visit visualized visualizes visually vitalize vitalizing vitiation vivid
    vowel vowels wafted waist waite waited waiting wander wandering waned wanked wantoned wards wasted weekly weigh
    weighed weighs weightier weighty welching welcomes welshes welshmen wenches weyden whale whatsoever whenever
    wheres whine whist whitefield whiten whitener whiter whites whither whiting whitings whits whittling wholes
    wideness widening widow widows wifely wight wights windowed windsors wingless winnow winnows wintering wirelesses
    wiriness wisely witching wondered wonders wonted woods woolen wooten wording wordings wordy workflows workings
    world worlds worming worms worrying worsen woulds wound wounder wrenches wrest wresting wretches wriest wright
    wring wringing wrists writhing writings writs wrongs wrung zonal zoned
"""

LOOKALIKES = frozenset(_WORDS.split())
